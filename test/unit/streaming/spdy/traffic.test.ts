import { createHash, type Hash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { CodedError } from '../../../../src/core/errors.ts'
import { SpdyConnection } from '../../../../src/streaming/spdy/connection.ts'
import { goAwayFrame, pingFrame, rstStreamFrame } from '../../../../src/streaming/spdy/frames.ts'
import type { SpdyStream } from '../../../../src/streaming/spdy/types.ts'
import { type Cut, duplexPair } from '../../../support/duplex-pair.ts'
import { SpdyPeer } from '../../../support/spdy-peer.ts'

const LIMITS = { maxStreams: 100, maxBufferedBytes: 64 * 1024 }
const NOTHING = Buffer.alloc(0)

/** What goes over one stream, and how. */
interface Traffic {
  readonly upBytes: number
  readonly downBytes: number
  readonly writeBytes: number
  /** Turns of the event loop between two reads. */
  readonly slowTurns: number
}

const traffic: fc.Arbitrary<Traffic> = fc.record({
  upBytes: fc.integer({ min: 0, max: 150_000 }),
  downBytes: fc.integer({ min: 0, max: 150_000 }),
  writeBytes: fc.integer({ min: 200, max: 100_000 }),
  slowTurns: fc.integer({ min: 0, max: 2 }),
})
const cutLengths = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 20 })

/** Cuts by these lengths in turn. */
function cutter(lengths: readonly number[]): Cut {
  let turnOf = 0
  return (chunk) => {
    const pieces: Buffer[] = []
    for (let offset = 0; offset < chunk.length; ) {
      const end = offset + (lengths[turnOf++ % lengths.length] ?? 1)
      pieces.push(chunk.subarray(offset, end))
      offset = end
    }
    return pieces
  }
}

/** Bytes that differ from place to place and from stream to stream. */
function* content(seed: number, bytes: number, writeBytes: number): Generator<Buffer> {
  for (let offset = 0; offset < bytes; offset += writeBytes) {
    const piece = Buffer.allocUnsafe(Math.min(writeBytes, bytes - offset))
    for (let i = 0; i < piece.length; i++) piece[i] = ((offset + i) * 31 + seed + ((offset + i) >> 8)) & 0xff
    yield piece
  }
}

async function send(stream: SpdyStream, seed: number, bytes: number, writeBytes: number): Promise<void> {
  for (const piece of content(seed, bytes, writeBytes)) if (!stream.write(piece)) await once(stream, 'drain')
  stream.end()
}

async function receive(stream: SpdyStream, slowTurns: number): Promise<Hash> {
  const hash = createHash('sha256')
  stream.on('data', (piece: Buffer) => {
    hash.update(piece)
    if (slowTurns === 0) return
    stream.pause()
    void waitTurns(slowTurns).then(() => stream.resume())
  })
  await finished(stream, { writable: false })
  return hash
}

async function waitTurns(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await turn()
}

function hashOf(seed: number, bytes: number): string {
  const hash = createHash('sha256')
  for (const piece of content(seed, bytes, 65_536)) hash.update(piece)
  return hash.digest('hex')
}

/** Runs all of it at a time over a connection, and checks what arrives on either side. */
async function exchange(sockets: readonly [Duplex, Duplex], all: readonly Traffic[]): Promise<void> {
  const client = new SpdyConnection(sockets[0], NOTHING, { role: 'client', ...LIMITS })
  const server = new SpdyConnection(sockets[1], NOTHING, { role: 'server', ...LIMITS })
  const arrived: Promise<void>[] = []
  const exchangeOne = async (stream: SpdyStream, it: Traffic, up: boolean, seed: number): Promise<void> => {
    const [sent, received] = up ? [it.upBytes, it.downBytes] : [it.downBytes, it.upBytes]
    const sending = send(stream, up ? seed : seed + 100, sent, it.writeBytes)
    const hash = await receive(stream, it.slowTurns)
    await sending
    expect(hash.digest('hex')).toBe(hashOf(up ? seed + 100 : seed, received))
  }
  const one = (index: number): Traffic => all[index] ?? { upBytes: 0, downBytes: 0, writeBytes: 1, slowTurns: 0 }
  server.onStream((stream) => {
    stream.reply()
    const index = Number(stream.headers['index'])
    arrived.push(exchangeOne(stream, one(index), false, index))
  })
  const sent = all.map((it, index) => exchangeOne(client.open({ index: String(index) }), it, true, index))
  await Promise.all(sent)
  await Promise.all(arrived)
  expect(arrived).toHaveLength(all.length)
  await client.close()
  if (!server.signal.aborted) await once(server.signal, 'abort')
}

async function tcpPair(): Promise<[Socket, Socket]> {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const client = connect((listener.address() as AddressInfo).port, '127.0.0.1')
  const [server] = (await once(listener, 'connection')) as [Socket]
  listener.close()
  return [client, server]
}

describe('SpdyConnection', () => {
  it('carries any traffic unchanged, however it is cut', { timeout: 30_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(traffic, { minLength: 1, maxLength: 8 }), cutLengths, async (all, lengths) => {
        await exchange(duplexPair(cutter(lengths)), all)
      }),
      { numRuns: 25 },
    )
  })

  it('carries many streams over TCP at a time', { timeout: 30_000 }, async () => {
    const sizes = [0, 1, 32_768, 32_769, 4_000_000, 8_000_000]
    const all = sizes.flatMap((bytes) => [
      { upBytes: bytes, downBytes: 0, writeBytes: 50_000, slowTurns: 0 },
      { upBytes: 100, downBytes: bytes, writeBytes: 1_000_000, slowTurns: 0 },
      { upBytes: bytes / 8, downBytes: bytes / 8, writeBytes: 5_000, slowTurns: 1 },
    ])
    await exchange(
      await tcpPair(),
      all.map((it) => ({ ...it, upBytes: it.upBytes | 0, downBytes: it.downBytes | 0 })),
    )
  })

  it('learns from pings that a peer is gone that it does not read', async () => {
    const [client, socket] = await tcpPair()
    const peer = new SpdyPeer(client)
    const server = new SpdyConnection(socket, NOTHING, { role: 'server', ...LIMITS })
    server.onStream((stream) => stream.reply())
    peer.say(peer.synStream(1), peer.data(1, Buffer.alloc(10_000_000)))
    while (!socket.isPaused()) await turn()
    client.destroy()
    while (!server.signal.aborted) {
      server.ping()
      await turn()
    }
    expect(socket.destroyed).toBe(true)
  })

  it('ends for whatever bytes come, and hurts nobody', { timeout: 30_000 }, async () => {
    const mutation = fc.record({
      kind: fc.constantFrom('set', 'insert', 'remove', 'repeat', 'cut'),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 30 }),
    })
    const mutations = fc.array(mutation, { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(mutations, cutLengths, async (changes, lengths) => {
        const [left, right] = duplexPair(cutter(lengths))
        const server = new SpdyConnection(right, NOTHING, { role: 'server', ...LIMITS, maxStreams: 5 })
        server.onStream((stream) => {
          stream.reply()
          stream.pipe(stream)
        })
        left.on('error', () => undefined).resume()
        left.end(changes.reduce(mutate, validTraffic()))
        if (!server.signal.aborted) await once(server.signal, 'abort')
        const { code } = server.signal.reason as CodedError
        expect(['InvalidArgument', 'Unavailable', 'Canceled']).toContain(code)
        expect(right.destroyed).toBe(true)
      }),
      { numRuns: 300 },
    )
  })
})

function mutate(bytes: Buffer, change: { kind: string; at: number; bytes: Uint8Array }): Buffer {
  const at = Math.floor(change.at * bytes.length)
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
  switch (change.kind) {
    case 'set':
      return Buffer.concat([before, change.bytes, after.subarray(change.bytes.length)])
    case 'insert':
      return Buffer.concat([before, change.bytes, after])
    case 'remove':
      return Buffer.concat([before, after.subarray(change.bytes.length)])
    case 'repeat':
      return Buffer.concat([before, after, after])
    default:
      return before
  }
}

function validTraffic(): Buffer {
  const peer = new SpdyPeer(duplexPair()[0])
  const headers = { streamtype: 'data', port: '80', requestid: '1' }
  return Buffer.concat([
    peer.synStream(1, headers),
    peer.data(1, 'some data'),
    pingFrame(1),
    peer.synStream(3, headers),
    peer.data(3, 'more'.repeat(20), true),
    peer.synStream(5, headers, 1),
    rstStreamFrame(1, 5),
    peer.synStream(7, headers),
    peer.data(7, 'x'.repeat(300)),
    peer.data(7, '', true),
    goAwayFrame(0, 0),
  ])
}
