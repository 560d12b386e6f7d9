import { connect } from 'node:net'
import { once } from 'node:events'
import { pino } from 'pino'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { MetricsServer } from '../../../src/telemetry/metrics-server.ts'

const logger = pino({ level: 'silent' })
/** One for each test: a client keeps its connections. */
let port = 20_000 + (process.pid % 5000)

async function open(text: () => Promise<string>): Promise<MetricsServer> {
  const metrics = { contentType: 'text/plain; version=0.0.4; charset=utf-8', text }
  const server = new MetricsServer({ address: `127.0.0.1:${port}` }, { metrics, logger })
  await server.listen()
  return server
}

describe('MetricsServer', () => {
  beforeEach(() => void port++)

  it('serves GET /metrics, and nothing else', async () => {
    await using _server = await open(async () => 'up 1\n')
    const base = `http://127.0.0.1:${port}`
    const response = await fetch(`${base}/metrics?x=1`)
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/plain; version=0.0.4; charset=utf-8',
      'up 1\n',
    ])
    for (const [path, method] of [
      ['/', 'GET'],
      ['/metrics/', 'GET'],
      ['/metrics', 'POST'],
      ['/v1/status', 'GET'],
    ]) {
      expect((await fetch(`${base}${path}`, { method: method ?? '' })).status).toBe(404)
    }
  })

  it('says that there are none when they cannot be told', async () => {
    await using _server = await open(async () => Promise.reject(new Error('broken')))
    expect((await fetch(`http://127.0.0.1:${port}/metrics`)).status).toBe(500)
  })

  it('makes one answer for those who ask in quick succession', async () => {
    let made = 0
    await using _server = await open(async () => `made ${++made}\n`)
    const asked = Array.from({ length: 20 }, async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text())
    const answers = new Set(await Promise.all(asked))
    expect(answers.size).toBe(made)
    expect(made).toBeLessThan(20)
    const next = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    await expect.poll(next).not.toBe([...answers].at(-1))
  })

  it('ends at once, whoever is connected', async () => {
    const server = await open(async () => new Promise<never>(() => {}))
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => {
      socket.destroy()
    })
    await once(socket, 'connect')
    socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n')
    socket.on('error', () => undefined)
    await server[Symbol.asyncDispose]()
    await expect.poll(() => socket.closed).toBe(true)
  })

  it('says which address cannot be listened on', async () => {
    await using _server = await open(async () => '')
    await expect(open(async () => '')).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining(`metrics.address: listen on 127.0.0.1:${port}`) as unknown,
    })
  })
})
