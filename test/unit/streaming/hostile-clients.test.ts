import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { WebSocket } from 'ws'
import type { SpdySession } from '../../../src/streaming/spdy/types.ts'
import { openSpdy, openWebSocket } from '../../support/streaming-upgrade.ts'
import { EXEC, type Fixture, SPDY_HEADERS, startStreaming, TERMINAL, until } from './streaming-fixture.ts'

let fixture: Fixture

beforeEach(async () => {
  fixture = await startStreaming({ streamCreationTimeoutMs: 200 })
})
afterEach(async () => await fixture[Symbol.asyncDispose]())

async function webSocket(protocol = 'v5.channel.k8s.io', request = EXEC): Promise<WebSocket> {
  const url = fixture.server.execUrl('c1', request)
  const socket = await openWebSocket(url, protocol === '' ? [] : [protocol])
  await fixture.process()
  return socket
}

const closeCode = async (socket: WebSocket): Promise<number> => ((await once(socket, 'close')) as [number])[0]

describe('a WebSocket client', () => {
  it.each([
    ['half of a close signal', 'v5.channel.k8s.io', Buffer.of(255), 1002],
    ['a close signal with more to it', 'v5.channel.k8s.io', Buffer.of(255, 0, 0), 1002],
    ['what is no base64', 'v4.base64.channel.k8s.io', '0%%%%', 1002],
    ['a message of more than 1 MiB', 'v4.channel.k8s.io', Buffer.alloc(1024 * 1024 + 1), 1009],
  ])('that sends %s is cut off', async (_, protocol, message, code) => {
    const socket = await webSocket(protocol)
    socket.send(message)
    expect(await closeCode(socket)).toBe(code)
    await (await fixture.process()).disposed
  })

  it.each([
    ['an empty message', Buffer.alloc(0)],
    ['a channel that there is not', Buffer.of(77, 1, 2, 3)],
    ['output', Buffer.of(1, 65)],
    ['the end of a channel that there is not', Buffer.of(255, 254)],
    ['input after its end', Buffer.of(255, 0)],
  ])('that sends %s is borne with', async (_, message) => {
    const socket = await webSocket()
    socket.send(message)
    socket.send(message)
    socket.send(Buffer.of(0, 65))
    const process = await fixture.process()
    const received: Buffer[] = []
    socket.on('message', (data: Buffer) => received.push(data))
    process.stdout?.write('x')
    process.exit(0)
    expect(await closeCode(socket)).toBe(1000)
    expect(received.map(String)).toContain('\u0001x')
  })

  it('in base64 is understood and answered', async () => {
    const socket = await webSocket('v4.base64.channel.k8s.io')
    const process = await fixture.process()
    socket.send(`0${Buffer.from('typed').toString('base64')}`)
    expect(String((await once(process.stdin ?? socket, 'data'))[0])).toBe('typed')
    const received: string[] = []
    socket.on('message', (data: Buffer, isBinary) => received.push(`${isBinary} ${data.toString()}`))
    process.stdout?.write(Buffer.of(0, 255, 10))
    process.exit(0)
    await closeCode(socket)
    expect(received).toContain(`false 1${Buffer.of(0, 255, 10).toString('base64')}`)
    expect(received.at(-1)).toBe(`false 3${Buffer.from('{"metadata":{},"status":"Success"}').toString('base64')}`)
  })

  it('without protocol gets text as its status, and an empty message at first', async () => {
    const url = fixture.server.execUrl('c1', EXEC)
    const socket = await openWebSocket(url, [])
    const received: Buffer[] = []
    socket.on('message', (data: Buffer) => received.push(data))
    const process = await fixture.process()
    process.exit(1)
    await closeCode(socket)
    expect(received[0]).toEqual(Buffer.of(1))
    expect(String(received.at(-1))).toBe('\u0003command terminated with non-zero exit code: 1')
  })

  it('that sends anything at all hurts nobody but itself', async () => {
    const message = fc.oneof(fc.uint8Array({ maxLength: 50 }), fc.string({ maxLength: 20 }))
    const protocol = fc.constantFrom('', 'v5.channel.k8s.io', 'v4.base64.channel.k8s.io')
    await fc.assert(
      fc.asyncProperty(protocol, fc.array(message, { maxLength: 20 }), async (name, messages) => {
        const count = fixture.containers.processes.length
        const socket = await openWebSocket(fixture.server.execUrl('c1', TERMINAL), name === '' ? [] : [name])
        socket.on('error', () => {})
        for (const each of messages) socket.send(each)
        const process = await until(() => fixture.containers.processes[count])
        process.exit(0)
        if (socket.readyState !== socket.CLOSED) await closeCode(socket)
        await process.disposed
      }),
      { numRuns: 50 },
    )
  })

  it('that speaks no WebSocket after the handshake is cut off', async () => {
    const socket = await webSocket()
    const { _socket: raw } = socket as unknown as { _socket: NodeJS.WritableStream }
    raw.write(randomBytes(4096))
    await (await fixture.process()).disposed
  })
})

describe('a SPDY client', () => {
  async function spdy(request = EXEC): Promise<SpdySession> {
    const url = fixture.server.execUrl('c1', request)
    return (await openSpdy(url, ['v4.channel.k8s.io'])).session
  }

  const ended = async (session: SpdySession): Promise<void> => {
    if (!session.signal.aborted) await once(session.signal, 'abort')
  }

  it('that does not open its streams is told so, and nothing is run', async () => {
    const session = await spdy()
    const errors = session.open({ streamtype: 'error' })
    session.open({ streamtype: 'stdin' })
    expect(JSON.parse(await text(errors))).toMatchObject({
      message: expect.stringContaining('wait for the streams of the client: no end after 200 ms') as string,
    })
    await ended(session)
    expect(fixture.containers.calls).toEqual([])
  })

  it('that sends where it should read is borne with', async () => {
    const session = await spdy()
    const streams = ['error', 'stdin', 'stdout', 'stderr'].map((streamtype) => session.open({ streamtype }))
    for (const stream of streams) stream.write(randomBytes(1_000_000))
    const process = await fixture.process()
    let read = 0
    process.stdin?.on('data', (part: Buffer) => {
      read += part.length
    })
    await until(() => read === 1_000_000)
    session.destroy()
  })

  it('that opens none is cut off', async () => {
    await ended(await spdy())
    expect(fixture.containers.calls).toEqual([])
  })

  it.each([
    ['of a kind that there is not', ['error', 'data']],
    ['without kind', ['']],
    ['twice', ['error', 'stdin', 'stdin']],
    ['by the name of what every object has', ['constructor']],
  ])('that opens a stream %s is cut off', async (_, kinds) => {
    const session = await spdy()
    for (const kind of kinds) session.open(kind === '' ? {} : { streamtype: kind })
    await ended(session)
    expect(fixture.logLines.join('')).toContain('open a stream: streamtype')
    expect(fixture.containers.calls).toEqual([])
  })

  it('that speaks no SPDY is cut off', async () => {
    const { hostname, port, pathname } = new URL(fixture.server.execUrl('c1', EXEC))
    const socket = connect({ host: hostname, port: Number(port) })
    socket.on('error', () => {})
    const headers = Object.entries(SPDY_HEADERS).map(([name, value]) => `${name}: ${value}`)
    socket.write([`POST ${pathname} HTTP/1.1`, 'Host: x', ...headers, '', ''].join('\r\n'))
    await once(socket, 'data')
    socket.resume().write(randomBytes(4096))
    await once(socket, 'close')
  })
})
