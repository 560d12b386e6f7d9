import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { forwardStreams } from '../../../src/streaming/port-forward/streams.ts'
import { SpdyConnection } from '../../../src/streaming/spdy/connection.ts'
import { webSocketDuplex } from '../../../src/streaming/websocket/web-socket-duplex.ts'
import { echo, FakePod } from '../../support/forwarded.ts'

const MIB = 1024 * 1024
const NONE = Buffer.alloc(0)
const OPTIONS = { maxStreams: 100, maxBufferedBytes: MIB }
const servers: WebSocketServer[] = []

afterEach(async () => {
  for (const server of servers.splice(0)) {
    for (const socket of server.clients) socket.terminate()
    server.close()
  }
})

async function webSockets(): Promise<{ client: WebSocket; server: WebSocket }> {
  const listener = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  servers.push(listener)
  await once(listener, 'listening')
  const accepted = once(listener, 'connection') as Promise<[WebSocket]>
  const client = new WebSocket(`ws://127.0.0.1:${(listener.address() as AddressInfo).port}`)
  const [[server]] = await Promise.all([accepted, once(client, 'open')])
  return { client, server }
}

function sha(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

describe('a session inside of a WebSocket', () => {
  it('forwards ports, however the client cuts its bytes into messages', async () => {
    const { client, server } = await webSockets()
    await using pod = new FakePod()
    await pod.serve(80, echo)
    const served = forwardStreams(
      new SpdyConnection(webSocketDuplex(server), NONE, { role: 'server', ...OPTIONS }),
      pod,
    )
    const session = new SpdyConnection(crumbled(client), NONE, { role: 'client', ...OPTIONS })
    const headers = { port: '80', requestid: '1' }
    session.open({ ...headers, streamtype: 'error' }).end()
    const data = session.open({ ...headers, streamtype: 'data' })
    const sent = randomBytes(20_000)
    data.end(sent)
    expect(sha(await buffer(data))).toBe(sha(sent))
    session.destroy()
    await served
    expect(pod.openSockets).toBe(0)
  })

  it('carries much unchanged both ways', async () => {
    const { client, server } = await webSockets()
    const [a, b] = [webSocketDuplex(client), webSocketDuplex(server)]
    const data = randomBytes(20 * MIB)
    b.pipe(b)
    a.write(data)
    const pieces: Buffer[] = []
    let length = 0
    for await (const piece of a as AsyncIterable<Buffer>) {
      pieces.push(piece)
      length += piece.length
      if (length === data.length) break
    }
    expect(sha(Buffer.concat(pieces))).toBe(sha(data))
  })

  it('takes no more from the client than is read, and holds back who writes faster than it reads', async () => {
    const { client, server } = await webSockets()
    const [a, b] = [webSocketDuplex(client), webSocketDuplex(server)]
    const chunk = Buffer.alloc(64 * 1024)
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      let written = 0
      // As much as the buffers of the kernel take, and not 256 MiB.
      while (written < 256 * MIB && (await drained(from, chunk))) written += chunk.length
      expect(written).toBeLessThan(64 * MIB)
      expect(to.readableLength).toBeLessThan(MIB)
      expect(from.writableLength).toBeLessThan(MIB)
    }
  })

  it('ends with a message in text', async () => {
    const { client, server } = await webSockets()
    const duplex = webSocketDuplex(server)
    const seen: Buffer[] = []
    duplex.on('data', (data: Buffer) => seen.push(data))
    const error = new Promise<unknown>((resolve) => {
      duplex.once('error', resolve)
    })
    const closed = once(client, 'close')
    client.send('text')
    expect(await error).toMatchObject({ code: 'InvalidArgument' })
    await closed
    expect(seen).toEqual([])
  })
})

/** A connection that sends its bytes in messages of any length. */
function crumbled(socket: WebSocket): Duplex {
  const duplex = webSocketDuplex(socket)
  duplex._write = (chunk: Buffer, _encoding, done) => {
    for (let at = 0, length = 1; at < chunk.length; at += length, length = (length * 7) % 31) {
      socket.send(chunk.subarray(at, at + length))
    }
    socket.send(NONE, done)
  }
  return duplex
}

/** Writes; false when that does not get through any more. */
async function drained(stream: Duplex, chunk: Buffer): Promise<boolean> {
  if (stream.write(chunk)) return true
  return Promise.race([once(stream, 'drain').then(() => true), sleep(500, false)])
}
