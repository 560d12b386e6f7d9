import { once } from 'node:events'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { forwardStreams } from '../../../src/streaming/port-forward/streams.ts'
import { SpdyConnection } from '../../../src/streaming/spdy/connection.ts'
import type { SpdyHeaders, SpdySession, SpdyStream } from '../../../src/streaming/spdy/types.ts'
import { echo, FakePod, socketPair } from '../../support/forwarded.ts'
import { eventually } from '../../support/pod-facts.ts'

const NONE = Buffer.alloc(0)
const MAX_STREAMS = 100

/** A session that is served, and the client's end of it. */
class Forwarding implements AsyncDisposable {
  readonly client: SpdySession
  readonly server: SpdySession
  readonly served: Promise<void>
  readonly pod: FakePod

  private constructor(client: Socket, server: Socket, pod: FakePod) {
    const options = { maxStreams: MAX_STREAMS, maxBufferedBytes: 1024 * 1024 }
    this.client = new SpdyConnection(client, NONE, { role: 'client', ...options })
    this.server = new SpdyConnection(server, NONE, { role: 'server', ...options })
    this.pod = pod
    this.served = forwardStreams(this.server, pod)
  }

  static async start(streamCreationTimeoutMs = 30_000): Promise<Forwarding> {
    const [client, server] = await socketPair()
    const pod = new FakePod(streamCreationTimeoutMs)
    await pod.serve(80, echo)
    return new Forwarding(client, server, pod)
  }

  open(streamtype: string, port: string | number, requestid?: string | number): SpdyStream {
    const id: SpdyHeaders = requestid === undefined ? {} : { requestid: String(requestid) }
    const stream = this.client.open({ streamtype, port: String(port), ...id })
    // As Go clients do it, which have nothing to say there.
    if (streamtype === 'error') stream.end()
    return stream
  }

  pair(port: number, requestid: string | number): { data: SpdyStream; errors: Promise<string> } {
    const error = this.open('error', port, requestid)
    return { errors: read(error), data: this.open('data', port, requestid) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.destroy()
    await this.served
    expect(this.pod.openSockets).toBe(0)
    await this.pod[Symbol.asyncDispose]()
  }
}

/** What comes until the end, or until it is reset. */
async function read(stream: SpdyStream): Promise<string> {
  let all = ''
  stream.on('data', (data: Buffer) => {
    all += data.toString()
  })
  await closed(stream)
  return all
}

/** All that comes to a server, which may answer after the end. */
async function received(socket: Socket): Promise<string> {
  let all = ''
  socket.on('data', (data: Buffer) => {
    all += data.toString()
  })
  await once(socket.resume(), 'end')
  return all
}

async function closed(stream: SpdyStream): Promise<void> {
  // Neither end is of interest by itself: `once` would fail for a reset.
  if (stream.closed) return
  await new Promise<void>((resolve) => {
    stream.once('close', resolve)
  })
}

async function isReset(stream: SpdyStream): Promise<boolean> {
  stream.resume()
  await closed(stream)
  return stream.errored?.message.includes('reset by the peer') ?? false
}

async function echoes(data: SpdyStream, message: string): Promise<void> {
  data.end(message)
  expect(await text(data)).toBe(message)
}

describe('port-forward over SPDY', () => {
  it('carries many connections to many ports at once, whose streams come in any order', async () => {
    await using f = await Forwarding.start()
    for (const port of [81, 82]) {
      await f.pod.serve(port, (socket) => {
        socket.write(`${port} `)
        echo(socket)
      })
    }
    const errors = [80, 81, 82].map((port) => f.open('error', port, port))
    const data = [82, 80, 81].map((port) => ({ port, stream: f.open('data', port, port) }))
    const dataFirst = f.open('data', 81, 'x')
    const errorLast = f.open('error', 81, 'x')
    for (const { port, stream } of data) {
      stream.end('hello')
      expect(await text(stream)).toBe(port === 80 ? 'hello' : `${port} hello`)
    }
    dataFirst.end('there')
    expect(await text(dataFirst)).toBe('81 there')
    for (const stream of [...errors, errorLast]) expect(await text(stream)).toBe('')
  })

  it('finds the streams of old clients, which send no request id, by their numbers', async () => {
    await using f = await Forwarding.start()
    const [e1, d1, e2, d2] = [f.open('error', 80), f.open('data', 80), f.open('error', 81), f.open('data', 80)]
    await echoes(d1, 'one')
    await echoes(d2, 'two')
    expect([await read(e1), await read(e2)]).toEqual(['', ''])
  })

  it('says on its error stream why a port cannot be reached, while other connections go on', async () => {
    await using f = await Forwarding.start()
    const good = f.pair(80, 1)
    const bad = f.pair(81, 2)
    expect(await bad.errors).toBe('connect to port 81: connection refused')
    expect(await isReset(bad.data)).toBe(true)
    await echoes(good.data, 'still here')
    expect(await good.errors).toBe('')
  })

  it('resets a connection that the pod resets, without a text, while other connections go on', async () => {
    await using f = await Forwarding.start()
    await f.pod.serve(81, (socket) => socket.once('data', () => socket.resetAndDestroy()))
    const good = f.pair(80, 1)
    const bad = f.pair(81, 2)
    bad.data.write('x')
    expect(await isReset(bad.data)).toBe(true)
    expect(await bad.errors).toBe('')
    await echoes(good.data, 'still here')
  })

  it('passes on the end of either direction while the other goes on', async () => {
    await using f = await Forwarding.start()
    await f.pod.serve(81, (socket) => {
      void received(socket).then((all) => socket.end(`got ${all}`))
    })
    const first = f.pair(81, 1)
    first.data.end('abc')
    expect(await text(first.data)).toBe('got abc')
    expect(await first.errors).toBe('')
    let all = Promise.resolve('')
    await f.pod.serve(82, (socket) => {
      socket.end('bye')
      all = received(socket)
    })
    const second = f.pair(82, 2)
    const end = once(second.data, 'end')
    second.data.resume()
    await end
    second.data.end('more')
    expect(await all).toBe('more')
    expect(await second.errors).toBe('')
  })

  it('closes the connection of a client that resets its stream, and ends the error stream', async () => {
    await using f = await Forwarding.start()
    const { data, errors } = f.pair(80, 1)
    data.write('x')
    await once(data, 'data')
    data.destroy()
    expect(await errors).toBe('')
    expect(
      await eventually(
        async () => f.pod.openSockets,
        (count) => count === 0,
      ),
    ).toBe(0)
  })

  it('gives up a connection under way when its client resets the stream, and only that', async () => {
    await using f = await Forwarding.start()
    f.pod.silent.add(81)
    const silent = f.pair(81, 1)
    const other = f.pair(81, 2)
    await echoes(f.pair(80, 3).data, 'x')
    silent.data.destroy()
    await silent.errors
    expect(f.pod.aborted).toHaveLength(1)
    other.data.destroy()
    await other.errors
    expect(f.pod.aborted).toHaveLength(2)
  })

  it('closes everything when the client goes', async () => {
    const f = await Forwarding.start()
    f.pod.silent.add(81)
    f.pair(81, 1)
    f.open('data', 80, 'alone')
    const { data } = f.pair(80, 2)
    data.write('x')
    await once(data, 'data')
    f.client.destroy()
    await f.served
    expect(f.pod.aborted).toHaveLength(1)
    expect(f.pod.sockets.map(({ destroyed }) => destroyed)).toEqual([true])
    await f.pod[Symbol.asyncDispose]()
  })

  it('resets a stream whose other one does not come in time', async () => {
    await using f = await Forwarding.start(50)
    expect(await isReset(f.open('data', 80, 1))).toBe(true)
    expect(await read(f.open('error', 80, 2))).toContain('not opened in time')
    // The ids can be used again, and connections that are complete have all the time they want.
    const { data } = f.pair(80, 1)
    await sleep(100)
    await echoes(data, 'x')
  })

  it.each([
    ['no port', { streamtype: 'data', requestid: '1' }],
    ...['', '0', '-1', '65536', '99999999999999999999', '80.0', '0x50', '8e1', ' 80', '80\0' + '81', '٨٠'].map(
      (port) => [`port ${JSON.stringify(port)}`, { streamtype: 'data', port, requestid: '1' }] as const,
    ),
    ['no type', { port: '80', requestid: '1' }],
    ['another type', { streamtype: 'stdin', port: '80', requestid: '1' }],
    ['two types', { streamtype: 'data\0error', port: '80', requestid: '1' }],
  ] as const)('resets a stream with %s, and nothing else', async (_, headers) => {
    await using f = await Forwarding.start()
    expect(await isReset(f.client.open(headers as SpdyHeaders))).toBe(true)
    await echoes(f.pair(80, 1).data, 'x')
  })

  it.each(['__proto__', 'constructor', 'é'.repeat(1000), ' '])('takes any request id: %#', async (id) => {
    await using f = await Forwarding.start()
    const { data, errors } = f.pair(80, id)
    await echoes(data, 'x')
    expect(await errors).toBe('')
  })

  it('resets a second stream of the same kind, and the pair goes on', async () => {
    await using f = await Forwarding.start()
    const error = f.open('error', 80, 1)
    expect(await isReset(f.open('error', 80, 1))).toBe(true)
    await echoes(f.open('data', 80, 1), 'x')
    expect(await read(error)).toBe('')
  })

  it('drops what a client says in an error stream, and closes that also when the client does not', async () => {
    await using f = await Forwarding.start()
    const error = f.client.open({ streamtype: 'error', port: '80', requestid: '1' })
    error.write(Buffer.alloc(4 * 1024 * 1024))
    await echoes(f.open('data', 80, 1), 'x')
    error.resume()
    await closed(error)
  })

  it('serves thousands of connections, one batch after another, and holds no more than the session allows', async () => {
    await using f = await Forwarding.start()
    const each = MAX_STREAMS / 2
    for (let batch = 0; batch < 20; batch++) {
      const pairs = Array.from({ length: each }, (_, i) => f.pair(80, batch * each + i))
      await Promise.all(
        pairs.map(async ({ data, errors }) => {
          await echoes(data, 'x')
          expect(await errors).toBe('')
        }),
      )
      expect(
        await eventually(
          async () => f.pod.openSockets,
          (count) => count === 0,
        ),
      ).toBe(0)
    }
    expect(f.pod.sockets).toHaveLength(20 * each)
    f.pod.silent.add(81)
    const many = Array.from({ length: 2000 }, (_, i) => f.open('data', 81, `n${i}`))
    const refused = await Promise.all(many.slice(MAX_STREAMS).map(isReset))
    expect(refused.every(Boolean)).toBe(true)
    for (const stream of many) stream.destroy()
    await echoes(f.pair(80, 'after').data, 'x')
  }, 30_000)

  it('lets a slow server hold up its own connection', async () => {
    await using f = await Forwarding.start()
    let slow: Socket | undefined
    await f.pod.serve(81, (socket) => {
      slow = socket.pause()
    })
    const { data } = f.pair(81, 1)
    data.write(Buffer.alloc(512 * 1024, 'a'))
    for (let i = 0; i < 10; i++) await echoes(f.pair(80, `q${i}`).data, 'quick')
    data.end()
    expect((await received(slow as Socket)).length).toBe(512 * 1024)
  })
})
