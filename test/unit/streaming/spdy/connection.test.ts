import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { SpdyConnection } from '../../../../src/streaming/spdy/connection.ts'
import { dataHeader, goAwayFrame, pingFrame, rstStreamFrame } from '../../../../src/streaming/spdy/frames.ts'
import type { SpdyOptions, SpdyStream } from '../../../../src/streaming/spdy/types.ts'
import { duplexPair } from '../../../support/duplex-pair.ts'
import { SpdyPeer } from '../../../support/spdy-peer.ts'

const LIMITS = { maxStreams: 10, maxBufferedBytes: 64 * 1024, closeTimeoutMs: 2000 }
const opened: SpdyConnection[] = []

afterEach(() => {
  for (const session of opened.splice(0)) session.destroy()
})

function session(socket: Duplex, options: Partial<SpdyOptions>, head = Buffer.alloc(0)): SpdyConnection {
  const connection = new SpdyConnection(socket, head, { role: 'server', ...LIMITS, ...options })
  opened.push(connection)
  return connection
}

/** Two of ours, talking to each other. */
function pair(options: Partial<SpdyOptions> = {}) {
  const [left, right] = duplexPair()
  return {
    client: session(left, { ...options, role: 'client' }),
    server: session(right, { ...options, role: 'server' }),
    sockets: [left, right] as const,
  }
}

/** A server of ours, and a peer that says what we like. */
function hostile(options: Partial<SpdyOptions> = {}) {
  const [left, right] = duplexPair()
  const server = session(right, options)
  const streams: SpdyStream[] = []
  server.onStream((stream) => {
    stream.reply()
    streams.push(stream)
  })
  return { peer: new SpdyPeer(left), server, streams, socket: right }
}

/** All that comes; unlike the consumers of Node.js it leaves the other half open. */
async function all(stream: Duplex): Promise<Buffer> {
  const pieces: Buffer[] = []
  stream.on('data', (piece: Buffer) => pieces.push(piece))
  await finished(stream, { writable: false })
  return Buffer.concat(pieces)
}

async function text(stream: Duplex): Promise<string> {
  return (await all(stream)).toString()
}

function nextStream(connection: SpdyConnection): Promise<SpdyStream> {
  return new Promise((resolve) => {
    connection.onStream((stream) => {
      stream.reply()
      resolve(stream)
    })
  })
}

async function reasonOf(connection: SpdyConnection): Promise<unknown> {
  if (!connection.signal.aborted) await once(connection.signal, 'abort', { signal: AbortSignal.timeout(5000) })
  return connection.signal.reason
}

describe('SpdyConnection', () => {
  it('carries both directions of a stream, each to its own end', async () => {
    const { client, server } = pair()
    const accepted = nextStream(server)
    const stream = client.open({ streamtype: 'data', port: '80' })
    stream.end('question')
    const theirs = await accepted
    expect(theirs.headers).toEqual({ streamtype: 'data', port: '80' })
    expect(theirs.id).toBe(stream.id)
    expect(await text(theirs)).toBe('question')
    theirs.end('answer')
    expect(await text(stream)).toBe('answer')
  })

  it('reads what came with the upgrade', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    const server = session(right, {}, Buffer.concat([peer.synStream(1, { a: 'b' }), peer.data(1, 'early')]))
    const accepted = nextStream(server)
    peer.say(peer.data(1, ' and late', true))
    expect(await text(await accepted)).toBe('early and late')
  })

  it('writes nothing before the answer when it has opened the stream', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    const client = session(right, { role: 'client' })
    client.open({}).end('data')
    await peer.hear('synStream')
    await turn()
    expect(peer.heard).toHaveLength(1)
    peer.say(peer.synReply(1))
    expect((await peer.hear('data')).payload.toString()).toBe('data')
  })

  it('answers a stream before it writes to it, and once', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    session(right, {}).onStream((stream) => {
      stream.write('data')
      stream.reply({ late: 'yes' })
    })
    peer.say(peer.synStream(1))
    await peer.hear('data')
    expect(peer.heard).toMatchObject([{ type: 'synReply', headers: {} }, { type: 'data' }])
  })

  it('gives up the place of a stream when both halves have ended and it was read', async () => {
    const { client, server } = pair({ maxStreams: 1 })
    server.onStream((stream) => {
      stream.reply()
      stream.resume().end('answer')
    })
    for (let i = 0; i < 5; i++) {
      const stream = client.open({})
      stream.end('question')
      expect(await text(stream)).toBe('answer')
      await turn()
      await turn()
    }
  })

  it.each([
    ['is reset', (peer: SpdyPeer) => peer.say(rstStreamFrame(1, 5))],
    ['ends with the session', (peer: SpdyPeer) => peer.socket.end()],
  ])('fails a stream that has ended in both directions, but was not read, when it %s', async (_what, leave) => {
    const { peer, streams } = hostile()
    peer.say(peer.synStream(1), peer.data(1, 'unread', true))
    await peer.hear('synReply')
    streams[0]?.end()
    await peer.hear('data', ({ fin }) => fin)
    expect(streams[0]?.destroyed).toBe(false)
    leave(peer)
    await expect.poll(() => streams[0]?.errored).toMatchObject({ code: 'Unavailable' })
  })

  it('resets a stream that is destroyed, and no other', async () => {
    const { client, server } = pair()
    const accepted: SpdyStream[] = []
    server.onStream((stream) => {
      stream.reply()
      accepted.push(stream)
    })
    const [first, second] = [client.open({}), client.open({})]
    while (accepted.length < 2) await turn()
    first.destroy()
    await expect(text(accepted[0] ?? first)).rejects.toMatchObject({ code: 'Unavailable' })
    second.end('still here')
    expect(await text(accepted[1] ?? second)).toBe('still here')
  })

  it('refuses streams beyond the limit, and takes them again later', async () => {
    const { peer, streams } = hostile({ maxStreams: 2 })
    peer.say(peer.synStream(1), peer.synStream(3), peer.synStream(5))
    expect(await peer.hear('rstStream')).toMatchObject({ streamId: 5, status: 3 })
    streams[0]?.destroy()
    await peer.hear('rstStream', ({ streamId }) => streamId === 1)
    peer.say(peer.synStream(7))
    await peer.hear('synReply', ({ streamId }) => streamId === 7)
  })

  it('lets several streams write in turn', async () => {
    const { peer, streams } = hostile()
    peer.say(peer.synStream(1), peer.synStream(3))
    await peer.hear('synReply', ({ streamId }) => streamId === 3)
    streams[0]?.write(Buffer.alloc(4 * 1024 * 1024))
    streams[1]?.write('short')
    await peer.hear('data', ({ streamId }) => streamId === 3)
    const before = peer.heard.filter((frame) => frame.type === 'data' && frame.streamId === 1)
    expect(before.length).toBeLessThan(5)
  })

  it('takes no more to write than the connection does', async () => {
    const { client, server, sockets } = pair()
    const accepted = nextStream(server)
    const stream = client.open({})
    const reader = await accepted
    sockets[1].pause()
    const written: number[] = []
    for (let i = 0; i < 100; i++) stream.write(Buffer.alloc(64 * 1024), () => written.push(i))
    for (let i = 0; i < 100; i++) await turn()
    expect(written.length).toBeLessThan(4)
    sockets[1].resume()
    stream.end()
    expect((await all(reader)).length).toBe(100 * 64 * 1024)
    expect(written).toHaveLength(100)
  })

  it.each([
    ['large', 16 * 1024, 20],
    ['tiny', 1, 600],
  ])('keeps a bounded amount in %s pieces for a reader that does not read', async (_size, bytes, most) => {
    const { peer, streams, socket } = hostile()
    peer.say(peer.synStream(1))
    await peer.hear('synReply')
    const frame = peer.data(1, Buffer.alloc(bytes, 'a'))
    let taken = 0
    for (let i = 0; i < 2000; i++) peer.socket.write(frame, () => taken++)
    for (let i = 0; i < 3000 && !socket.isPaused(); i++) await turn()
    expect(socket.isPaused()).toBe(true)
    expect(taken).toBeLessThan(most)
    peer.say(peer.data(1, '', true))
    expect((await all(streams[0] ?? socket)).length).toBe(2000 * bytes)
  })

  it('reads on when the stream that was not read is gone', async () => {
    const { peer, streams, socket } = hostile()
    peer.say(peer.synStream(1), peer.data(1, Buffer.alloc(100_000)))
    while (!socket.isPaused()) await turn()
    streams[0]?.destroy()
    peer.say(pingFrame(1))
    await peer.hear('ping')
  })

  it('answers pings of the peer, and asks in its own turn', async () => {
    const { peer, server } = hostile()
    peer.say(pingFrame(7))
    expect(await peer.hear('ping')).toMatchObject({ id: 7 })
    server.ping()
    await peer.hear('ping', ({ id }) => id === 2)
    peer.say(pingFrame(2))
    server.ping()
    await peer.hear('ping', ({ id }) => id === 4)
  })

  it('knows when data passed last; pings do not count', async () => {
    const { peer, server, streams } = hostile()
    const atStart = server.lastActivityMs
    peer.say(pingFrame(1), peer.synStream(1))
    await peer.hear('synReply')
    expect(server.lastActivityMs).toBe(atStart)
    peer.say(peer.data(1, 'x'))
    while (server.lastActivityMs === atStart) await turn()
    const afterRead = server.lastActivityMs
    expect(afterRead).toBeGreaterThan(atStart)
    streams[0]?.write('y')
    await peer.hear('data')
    expect(server.lastActivityMs).toBeGreaterThan(afterRead)
  })
})

describe('SpdyConnection.close', () => {
  it('lets out all that was written, and says good-bye last', async () => {
    const { peer, server, streams } = hostile()
    peer.say(peer.synStream(1), peer.synStream(3))
    await peer.hear('synReply', ({ streamId }) => streamId === 3)
    for (let i = 0; i < 20; i++) streams[0]?.write(Buffer.alloc(100_000))
    streams[1]?.end('the end')
    const closed = server.close()
    expect(() => server.open({})).toThrow(expect.objectContaining({ code: 'Unavailable' }))
    expect(await peer.hear('goAway')).toMatchObject({ lastStreamId: 3 })
    const bytes = peer.heard.reduce((sum, frame) => sum + (frame.type === 'data' ? frame.payload.length : 0), 0)
    expect(bytes).toBe(2_000_007)
    expect(peer.heard.at(-1)?.type).toBe('goAway')
    peer.socket.end()
    await closed
    expect(server.signal.reason).toMatchObject({ code: 'Canceled' })
    expect(streams[0]?.errored).toMatchObject({ code: 'Unavailable' })
  })

  it('ends both sides', async () => {
    const { client, server } = pair()
    await client.close()
    expect(await reasonOf(server)).toBeDefined()
    await server.close()
  })

  it('gives up on a peer that takes nothing', async () => {
    const { peer, server, streams } = hostile({ closeTimeoutMs: 50 })
    peer.say(peer.synStream(1))
    await peer.hear('synReply')
    peer.socket.pause()
    streams[0]?.end(Buffer.alloc(1_000_000))
    await server.close()
    expect(server.signal.reason).toMatchObject({ code: 'DeadlineExceeded' })
  })

  it('leaves after the last stream when the peer has said good-bye', async () => {
    const { peer, server, streams } = hostile()
    peer.say(peer.synStream(1), goAwayFrame(0, 0))
    await peer.hear('synReply')
    streams[0]?.resume().end('answer')
    peer.say(peer.data(1, '', true))
    await peer.hear('goAway')
    expect(peer.heard.some((frame) => frame.type === 'data' && frame.payload.toString() === 'answer')).toBe(true)
    peer.socket.end()
    await reasonOf(server)
  })

  it('holds nothing of the connection afterwards', async () => {
    const { client, server, sockets } = pair()
    const accepted = nextStream(server)
    const stream = client.open({})
    stream.write('x')
    const theirs = await accepted
    const why = new Error('enough')
    server.destroy(why)
    expect(server.signal.reason).toBe(why)
    await reasonOf(client)
    while (!stream.closed || !theirs.closed) await turn()
    expect(theirs.errored).toMatchObject({ code: 'Unavailable', cause: why })
    for (const socket of sockets) {
      expect(socket.destroyed).toBe(true)
      for (const event of ['data', 'drain', 'end', 'close']) expect(socket.listenerCount(event)).toBe(0)
    }
    expect(() => client.open({})).toThrow('the session has ended')
    client.ping()
    theirs.reply()
  })

  it('is over at once when the connection is gone already', () => {
    const [, right] = duplexPair()
    right.destroy()
    expect(session(right, {}).signal.aborted).toBe(true)
  })
})

describe('SpdyConnection and a hostile peer', () => {
  it.each([
    ['data for a stream that never was', (peer: SpdyPeer) => peer.data(9, 'x'), 9],
    ['data after its end', (peer: SpdyPeer) => Buffer.concat([peer.data(1, '', true), peer.data(1, 'x')]), 1],
    ['a stream with a bad name', (peer: SpdyPeer) => peer.synStream(3, { Name: 'x' }), 3],
    ['a stream for one direction', (peer: SpdyPeer) => peer.synStream(3, {}, 2), 3],
  ])('resets %s, and goes on', async (_what, frame, streamId) => {
    const { peer } = hostile()
    peer.say(peer.synStream(1), frame(peer), pingFrame(1))
    expect(await peer.hear('rstStream')).toMatchObject({ streamId })
    await peer.hear('ping')
  })

  it.each([
    ['a reset of nothing', () => rstStreamFrame(99, 1)],
    ['an answer to nothing', (peer: SpdyPeer) => peer.synReply(98)],
    ['a good-bye from nowhere', () => goAwayFrame(77, 2)],
    ['an answer to a ping that never was', () => pingFrame(1000)],
  ])('ignores %s', async (_what, frame) => {
    const { peer } = hostile()
    peer.say(peer.synStream(1), frame(peer), pingFrame(1))
    await peer.hear('ping')
  })

  it.each([
    ['a stream with a number of ours', (peer: SpdyPeer) => peer.synStream(2)],
    ['a stream twice', (peer: SpdyPeer) => Buffer.concat([peer.synStream(3), peer.synStream(3)])],
    [
      'a stream with a number before the last',
      (peer: SpdyPeer) => Buffer.concat([peer.synStream(5), peer.synStream(3)]),
    ],
    ['an answer to its own stream', (peer: SpdyPeer) => peer.synReply(1)],
    ['garbage', () => Buffer.alloc(64, 0xfe)],
  ])('ends the session for %s', async (_what, frame) => {
    const { peer, server, streams, socket } = hostile()
    peer.say(peer.synStream(1))
    await peer.hear('synReply')
    peer.say(frame(peer))
    expect(await reasonOf(server)).toMatchObject({ code: 'InvalidArgument' })
    expect(streams[0]?.destroyed).toBe(true)
    expect(socket.destroyed).toBe(true)
  })

  it('tells a peer that does what is not allowed', async () => {
    const { peer } = hostile()
    peer.say(Buffer.alloc(64, 0xfe))
    await peer.hear('goAway')
  })

  it('ends the session for a second answer', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    const client = session(right, { role: 'client' })
    client.open({})
    peer.say(peer.synReply(1), peer.synReply(1))
    expect(await reasonOf(client)).toMatchObject({ code: 'InvalidArgument' })
  })

  it('survives thousands of streams', async () => {
    const { peer, server } = hostile()
    for (let id = 1; id < 10_000; id += 2) peer.say(peer.synStream(id))
    await peer.hear('rstStream', ({ streamId }) => streamId === 9999)
    expect(server.signal.aborted).toBe(false)
  })

  it('answers what comes together with one write', async () => {
    const { peer, socket } = hostile()
    let writes = 0
    const write = socket._write.bind(socket)
    // Takes at once what it gets, as a connection does of which the buffers are empty.
    socket._write = (chunk, encoding, done) => {
      writes++
      write(chunk, encoding, () => undefined)
      done()
    }
    socket._writev = (pieces, done) => {
      const chunks = pieces.map(({ chunk }) => chunk as Buffer)
      socket._write(Buffer.concat(chunks), 'buffer' as BufferEncoding, done)
    }
    peer.say(...Array.from({ length: 500 }, (_, i) => pingFrame(2 * i + 1)))
    await peer.hear('ping', ({ id }) => id === 999)
    expect(writes).toBeLessThan(5)
  })

  it('stops reading a peer that asks and does not listen', async () => {
    const { peer, socket } = hostile()
    peer.socket.pause()
    let taken = 0
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => pingFrame(1)))
    for (let i = 0; i < 100; i++) peer.socket.write(pings, () => taken++)
    while (!socket.isPaused()) await turn()
    for (let i = 0; i < 100; i++) await turn()
    expect(taken).toBeLessThan(20)
    peer.socket.resume()
    while (peer.heard.length < 100_000) await turn()
  })

  it('ends the session when a listener throws', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    const server = session(right, {})
    const bug = new Error('bug')
    server.onStream(() => {
      throw bug
    })
    peer.say(peer.synStream(1))
    expect(await reasonOf(server)).toBe(bug)
  })

  it('refuses streams as long as nobody listens', async () => {
    const [left, right] = duplexPair()
    const peer = new SpdyPeer(left)
    session(right, {})
    peer.say(peer.synStream(1), dataHeader(1, 0, true))
    expect(await peer.hear('rstStream')).toMatchObject({ streamId: 1, status: 3 })
  })
})
