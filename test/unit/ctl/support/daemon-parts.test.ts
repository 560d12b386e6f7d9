import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, it, onTestFinished } from 'vitest'
import { AdminServer } from '../../../../src/admin/server.ts'
import { parseConfig } from '../../../../src/config/parse.ts'
import { daemonParts } from '../../../../src/ctl/support/daemon-parts.ts'

it('asks at the socket that was given, whatever the configuration says', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'parts-'))
  const socketPath = join(directory, 'admin.sock')
  const routes = { 'GET /v1/status': { answer: async () => ({ json: { pid: 7 } }) } }
  const server = new AdminServer(
    { socket: socketPath, mode: 0o600, group: '' },
    { routes, logger: pino({ level: 'silent' }) },
  )
  onTestFinished(async () => {
    await server.close(0)
    await rm(directory, { recursive: true })
  })
  await server.listen()
  const parts = daemonParts(parseConfig('', 'x'), { socketPath, timeoutMs: 10_000 })
  const status = parts.find(({ name }) => name === 'daemon/status.json')
  expect(await status?.collect(new AbortController().signal)).toEqual({ pid: 7 })
})
