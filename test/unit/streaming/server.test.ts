import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import type { StreamingServerOptions } from '../../../src/streaming/server.ts'
import { exitCode, openPortForward, openRemoteCommand } from '../../support/streaming-client.ts'
import { EXEC, type Fixture, SPDY_HEADERS, send, startStreaming, until } from './streaming-fixture.ts'

const WEBSOCKET_HEADERS = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'MDEyMzQ1Njc4OWFiY2RlZg==',
}
const TLS_DIR = fileURLToPath(new URL('../../support/tls', import.meta.url))

let fixture: Fixture

async function start(changes: Partial<StreamingServerOptions> = {}): Promise<string> {
  fixture = await startStreaming(changes)
  return fixture.server.execUrl('c1', EXEC)
}

afterEach(async () => await fixture[Symbol.asyncDispose]())

describe('the URLs', () => {
  it('hold 256 random bits each, and where to go', async () => {
    const url = await start()
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/exec\/[A-Za-z0-9_-]{43}$/)
    const { server } = fixture
    expect(server.attachUrl('c1', EXEC)).toMatch(/\/attach\/[A-Za-z0-9_-]{43}$/)
    expect(server.portForwardUrl('s1', [])).toMatch(/\/portforward\/[A-Za-z0-9_-]{43}$/)
    expect(server.execUrl('c1', EXEC)).not.toBe(url)
  })

  it('begin with what clients can reach', async () => {
    const url = await start({ baseUrl: 'https://node:10350/streaming/' })
    expect(url).toMatch(/^https:\/\/node:10350\/streaming\/exec\/[A-Za-z0-9_-]{43}$/)
  })

  it('hold an IPv6 address as URLs do', async () => {
    const url = await start({ address: '::1' })
    expect(url).toMatch(/^http:\/\/\[::1\]:\d+\/exec\//)
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
  })

  it('are limited in number', async () => {
    await start({ maxPending: 2 })
    fixture.server.portForwardUrl('s1', [])
    expect(() => fixture.server.execUrl('c1', EXEC)).toThrow(expect.objectContaining({ code: 'ResourceExhausted' }))
  })
})

describe('a request', () => {
  it.each([
    ['from a browser', { ...SPDY_HEADERS, Origin: 'http://127.0.0.1' }, 403, 'Origin'],
    ['from a browser, without upgrade', { Origin: 'null' }, 403, 'Origin'],
    ['without upgrade', {}, 400, 'must be upgraded to SPDY/3.1 or websocket'],
    ['to upgrade to something else', { ...SPDY_HEADERS, Upgrade: 'h2c' }, 400, 'must be upgraded'],
    ['without protocol', { Connection: 'Upgrade', Upgrade: 'SPDY/3.1' }, 400, 'X-Stream-Protocol-Version is missing'],
    ['with a protocol of old', { ...SPDY_HEADERS, 'X-Stream-Protocol-Version': 'v0' }, 403, 'v4.channel.k8s.io, v3.'],
    ['that is no handshake', { Connection: 'Upgrade', Upgrade: 'websocket' }, 400, 'not a handshake'],
  ])('%s is refused, and the token is not lost', async (_, headers, status, text) => {
    const url = await start()
    for (const method of ['GET', 'POST']) {
      const answer = await send(url, headers, method)
      expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(text)])
    }
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
  })

  it('over WebSocket with a protocol of another kind is told which there are', async () => {
    const url = await start()
    const answer = await send(url, { ...WEBSOCKET_HEADERS, 'Sec-WebSocket-Protocol': 'v1.chat, mqtt' }, 'GET')
    expect(answer.status).toBe(403)
    expect(answer.text).toContain('v1.chat, mqtt is served: v5.channel.k8s.io, v4.channel.k8s.io')
  })

  it('takes the first protocol of the client that there is', async () => {
    const url = await start()
    const protocols = 'v9.channel.k8s.io, v2.channel.k8s.io,v4.channel.k8s.io'
    const answer = await send(url, { ...SPDY_HEADERS, 'X-Stream-Protocol-Version': protocols })
    expect(answer.headers).toMatchObject({ upgrade: 'SPDY/3.1', 'x-stream-protocol-version': 'v2.channel.k8s.io' })
  })

  it('with a token that was used finds nothing', async () => {
    const url = await start()
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
    expect((await send(url, SPDY_HEADERS)).status).toBe(404)
    expect((await send(url, { ...WEBSOCKET_HEADERS }, 'GET')).status).toBe(404)
  })

  it('with a token of another kind finds nothing, and does not use it up', async () => {
    const url = await start()
    expect((await send(url.replace('/exec/', '/attach/'), SPDY_HEADERS)).status).toBe(404)
    const forward = { ...SPDY_HEADERS, 'X-Stream-Protocol-Version': 'portforward.k8s.io' }
    expect((await send(url.replace('/exec/', '/portforward/'), forward)).status).toBe(404)
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
  })

  it('for anything else finds nothing', async () => {
    const url = await start()
    const { origin } = new URL(url)
    for (const path of [
      '/',
      '/exec',
      '/exec/',
      '/exec/abc',
      `/exec/${'A'.repeat(43)}`,
      '/constructor/x',
      '/../exec/x',
    ]) {
      expect((await send(`${origin}${path}`, SPDY_HEADERS)).status, path).toBe(404)
    }
  })

  it('that is too long is refused', async () => {
    const url = await start()
    expect((await send(url, { ...SPDY_HEADERS, 'X-Long': 'x'.repeat(20_000) })).status).toBe(431)
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
  })

  it('says nothing of its token to the log', async () => {
    const url = await start()
    await send(url, { ...SPDY_HEADERS, Origin: 'x' })
    await send(url, SPDY_HEADERS)
    await until(() => fixture.logLines.some((line) => line.includes('session ended')))
    expect(fixture.logLines.join('')).not.toContain(url.slice(-43))
  })
})

describe('the limits', () => {
  it('of sessions: more are refused, and their URLs stay good', async () => {
    const first = await openRemoteCommand(await start({ maxSessions: 1 }), { transport: 'spdy', ...EXEC })
    const process = await fixture.process()
    const url = fixture.server.execUrl('c1', EXEC)
    expect((await send(url, SPDY_HEADERS)).status).toBe(503)
    first.destroy()
    await process.disposed
    await until(async () => (await send(url, SPDY_HEADERS)).status === 101)
  })

  it('of connections that ask for nothing: the oldest have to go, and clients are served', async () => {
    const url = await start()
    const { hostname, port } = new URL(url)
    let closed = 0
    const sockets = await Promise.all(
      Array.from({ length: 400 }, async () => {
        const socket = connect({ host: hostname, port: Number(port) })
        socket.on('close', () => {
          closed += 1
        })
        socket.on('error', () => {})
        await once(socket, 'connect')
        socket.write('GET /exec/x HTTP/1.1\r\nHost: x\r\n')
        return socket
      }),
    )
    await until(() => closed >= 144)
    expect((await send(url, SPDY_HEADERS)).status).toBe(101)
    expect(closed).toBeLessThan(200)
    for (const socket of sockets) socket.destroy()
  })

  it('of time: what was opened is closed with the server', async () => {
    const url = await start()
    const { hostname, port } = new URL(url)
    const half: Socket = connect({ host: hostname, port: Number(port) })
    half.on('error', () => {})
    await once(half, 'connect')
    const client = await openRemoteCommand(url, { transport: 'spdy', ...EXEC })
    const process = await fixture.process()
    const ended = once(half, 'close')
    half.resume()
    await fixture.server[Symbol.asyncDispose]()
    await Promise.all([ended, process.disposed])
    expect(await client.status).toMatchObject({
      reason: 'InternalError',
      message: expect.stringContaining('shut down') as string,
    })
    await expect(send(url, SPDY_HEADERS)).rejects.toThrow('ECONNREFUSED')
  })
})

describe('port-forward', () => {
  it.each(['spdy', 'tunnel', 'websocket'] as const)('over %s ends when it is idle', async (transport) => {
    await start({ idleTimeoutMs: 100, pingIntervalMs: 5 })
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const { port } = listener.address() as AddressInfo
    const client = await openPortForward(fixture.server.portForwardUrl('s1', [port]), { transport, ports: [port] })
    const { data } = client.connect(port)
    data.on('error', () => {})
    const [socket] = (await once(listener, 'connection')) as [Socket]
    socket.on('error', () => {}).resume()
    await Promise.all([once(socket, 'close'), until(() => data.destroyed || data.readableEnded)])
    expect(fixture.sandboxes.calls[0]).toMatchObject({ verb: 'connect', subject: 's1', request: port })
    listener.close()
  })
})

describe('StreamingServer.listen', () => {
  it('says what is wrong with the address', async () => {
    const port = Number(new URL(await start()).port)
    const again = startStreaming({ port })
    await expect(again).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining('EADDRINUSE') as string,
    })
  })

  it('says what is wrong with the TLS files', async () => {
    await start()
    const broken = { tlsCertFile: `${TLS_DIR}/cert.pem`, tlsKeyFile: `${TLS_DIR}/cert.pem` }
    await expect(startStreaming(broken)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(startStreaming({ ...broken, tlsKeyFile: '/none' })).rejects.toMatchObject({
      message: expect.stringContaining('/none') as string,
    })
  })
})

describe('with TLS', () => {
  const files = { tlsCertFile: `${TLS_DIR}/cert.pem`, tlsKeyFile: `${TLS_DIR}/key.pem` }

  it.each(['spdy', 'websocket'] as const)('serves clients over %s', async (transport) => {
    const url = await start(files)
    expect(url).toMatch(/^https:/)
    const ca = await readFile(files.tlsCertFile)
    const client = await openRemoteCommand(url, { transport, ...EXEC, tls: { ca } })
    const process = await fixture.process()
    process.exit(7)
    expect(exitCode(await client.status)).toBe(7)
    await client.close()
  })

  it('serves only those that its authority vouches for', async () => {
    const url = await start({ ...files, tlsClientCaFile: files.tlsCertFile })
    const [ca, key] = await Promise.all([readFile(files.tlsCertFile), readFile(files.tlsKeyFile)])
    await expect(openRemoteCommand(url, { transport: 'spdy', ...EXEC, tls: { ca } })).rejects.toThrow()
    const client = await openRemoteCommand(url, { transport: 'spdy', ...EXEC, tls: { ca, cert: ca, key } })
    client.destroy()
  })

  it('reads its files again, for who comes then, and keeps those that work', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-tls-'))
    const own = { tlsCertFile: join(dir, 'cert.pem'), tlsKeyFile: join(dir, 'key.pem') }
    const ca = await readFile(files.tlsCertFile)
    const serves = async (url: string): Promise<void> => {
      const client = await openRemoteCommand(url, { transport: 'spdy', ...EXEC, tls: { ca } })
      client.destroy()
    }
    try {
      await copyFile(files.tlsCertFile, own.tlsCertFile)
      await copyFile(files.tlsKeyFile, own.tlsKeyFile)
      await serves(await start(own))
      const { server } = fixture
      // One that is being replaced, and is not whole yet.
      await writeFile(own.tlsKeyFile, 'no key')
      await expect(server.reloadTls()).rejects.toMatchObject({ code: 'FailedPrecondition' })
      await serves(server.execUrl('c1', EXEC))
      await copyFile(files.tlsKeyFile, own.tlsKeyFile)
      await server.reloadTls()
      await serves(server.execUrl('c1', EXEC))
    } finally {
      await rm(dir, { recursive: true })
    }
  })

  it('is not impressed by connections that never begin', async () => {
    const url = await start(files)
    const { hostname, port } = new URL(url)
    const sockets = Array.from({ length: 300 }, () => {
      const socket = connect({ host: hostname, port: Number(port) })
      return socket.on('error', () => {})
    })
    await until(() => sockets.every(({ connecting }) => !connecting))
    const ca = await readFile(files.tlsCertFile)
    const client = await openRemoteCommand(url, { transport: 'spdy', ...EXEC, tls: { ca } })
    client.destroy()
    for (const socket of sockets) socket.destroy()
  })
})
