import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { CleanupStack } from '../../../src/core/cleanup.ts'
import { openMetricsServer, openTelemetry } from '../../../src/daemon/parts/telemetry.ts'
import { Logs } from '../../../src/telemetry/logs.ts'

it('does without a metrics server where another has its port, and says so', async () => {
  const lines: string[] = []
  const logs = new Logs({ level: 'info', levels: {}, format: 'json' }, { write: (line) => void lines.push(line) })
  const other = createServer()
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  onTestFinished(() => {
    other.close()
  })
  const address = `127.0.0.1:${(other.address() as AddressInfo).port}`
  await using parts = new CleanupStack()
  const config = { tracing: { endpoint: '', sampleRatio: 1 }, timeouts: { drainMs: 1000 }, metrics: { address } }
  const { metrics } = await openTelemetry(config, { logs, version: '1' }, parts)
  await openMetricsServer(config, { metrics, logs }, parts)
  expect(lines.join('')).toContain('metrics are told on the admin socket only')
})
