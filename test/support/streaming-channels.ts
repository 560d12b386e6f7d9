import { Readable, Writable } from 'node:stream'
import type { RawData, WebSocket } from 'ws'

/** Closes a channel (v5.channel.k8s.io). */
const CLOSE = 255

/** The client's end of `channel.k8s.io`: a byte for the channel at the start of every message. */
export class ChannelClient {
  readonly socket: WebSocket
  readonly #readers = new Map<number, Readable>()
  /** How it ended; undefined for a normal end. */
  readonly closed: Promise<Error | undefined>

  constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => this.#receive(data))
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        const error = code === 1000 ? undefined : new Error(`websocket closed: ${code} ${reason.toString()}`)
        for (const reader of this.#readers.values()) {
          if (error) reader.destroy(error)
          else reader.push(null)
        }
        resolve(error)
      })
    })
  }

  /** To be asked for before the next turn of the event loop: what comes for nobody is dropped. */
  reader(channel: number): Readable {
    const reader = new Readable({ read: () => this.socket.resume() })
    // Whoever reads it learns about it; whoever does not is not hurt.
    reader.on('error', () => undefined)
    this.#readers.set(channel, reader)
    return reader
  }

  /** A message for every write; its end closes the channel where the protocol has a word for that. */
  writer(channel: number): Writable {
    const send = (message: Buffer, done: (error?: Error) => void): void => this.socket.send(message, done)
    const writer = new Writable({
      write: (chunk: Buffer, _encoding, done) => send(Buffer.concat([Buffer.from([channel]), chunk]), done),
      final: (done) => {
        if (this.socket.protocol === 'v5.channel.k8s.io') send(Buffer.from([CLOSE, channel]), done)
        else done()
      },
    })
    writer.on('error', () => undefined)
    return writer
  }

  /** Closes it, and waits for a second at most for the server to close it, too. */
  async close(): Promise<void> {
    this.socket.close(1000)
    const timer = setTimeout(() => this.socket.terminate(), 1000)
    await this.closed
    clearTimeout(timer)
  }

  #receive(data: RawData): void {
    if (!Buffer.isBuffer(data)) throw new Error('a message is one buffer')
    const channel = data[0]
    const payload = data.subarray(1)
    if (channel === undefined) return
    if (channel === CLOSE) {
      this.#readers.get(payload[0] ?? CLOSE)?.push(null)
      return
    }
    // Some servers announce themselves by an empty message.
    if (payload.length > 0 && this.#readers.get(channel)?.push(payload) === false) this.socket.pause()
  }
}
