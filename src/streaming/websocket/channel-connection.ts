import { Readable, Writable } from 'node:stream'
import type { WebSocket } from 'ws'
import { CodedError } from '../../core/errors.ts'
import type { ChannelSession } from '../carrier.ts'
import { type ChannelCodec, decodeMessage, encodeMessage } from './channel-message.ts'

export interface ChannelOptions {
  readonly codec: ChannelCodec
  /** Whether the client can end a channel (v5). */
  readonly hasClose: boolean
}

/** Kept for a channel before the connection is not read any more; a message more may come on top. */
const BUFFERED_BYTES = 64 * 1024

const PROTOCOL_ERROR = 1002

/** The channels of a WebSocket. What is no message of the protocol ends it. */
export class ChannelConnection implements ChannelSession {
  readonly #socket: WebSocket
  readonly #options: ChannelOptions
  readonly #readers = new Map<number, Readable>()
  /** Those that hold up the others. */
  readonly #full = new Set<number>()
  readonly #ended = new AbortController()
  #lastActivityMs = performance.now()

  constructor(socket: WebSocket, options: ChannelOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('message', (data) => this.#onMessage(data as Buffer))
    // Nothing but news: the end is told by 'close', which always follows.
    socket.on('error', (error) => this.#end(new CodedError('Unavailable', `read a WebSocket: ${error.message}`)))
    socket.on('close', (code) =>
      this.#end(new CodedError('Unavailable', `the client has closed its WebSocket (${code})`)),
    )
  }

  get signal(): AbortSignal {
    return this.#ended.signal
  }

  get lastActivityMs(): number {
    return this.#lastActivityMs
  }

  reader(channel: number): Readable {
    const read = (): void => {
      if (this.#full.delete(channel) && this.#full.size === 0) this.#socket.resume()
    }
    const reader = new Readable({ highWaterMark: BUFFERED_BYTES, read })
    reader.on('close', () => {
      this.#readers.delete(channel)
      // One that is not read any more must not hold up the others.
      read()
    })
    // Whoever reads learns of the end of the connection from its signal as well.
    reader.on('error', () => {})
    this.#readers.set(channel, reader)
    return reader
  }

  writer(channel: number): Writable {
    const { codec } = this.#options
    const writer = new Writable({
      highWaterMark: BUFFERED_BYTES,
      // Called back when it has left for the kernel: a slow client holds up whoever writes.
      write: (chunk: Buffer, _encoding, callback) => {
        this.#lastActivityMs = performance.now()
        this.#socket.send(encodeMessage(codec, channel, chunk), { binary: codec === 'binary' }, callback)
      },
    })
    writer.on('error', () => {})
    return writer
  }

  ping(): void {
    // One that waits to be sent tells as much as any number of them.
    if (this.#socket.readyState === this.#socket.OPEN && this.#socket.bufferedAmount === 0) this.#socket.ping()
  }

  async close(): Promise<void> {
    if (this.#socket.readyState === this.#socket.CLOSED) return
    const closed = new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve())
    })
    // What the client still sends has to be read, and is dropped, or its answer would never be seen.
    this.#readers.clear()
    this.#socket.resume()
    this.#socket.close(1000)
    await closed
  }

  destroy(error = new CodedError('Canceled', 'the session was ended')): void {
    this.#end(error)
    this.#socket.terminate()
  }

  #onMessage(bytes: Buffer): void {
    const message = decodeMessage(this.#options.codec, this.#options.hasClose, bytes)
    if (message === undefined) return this.#fail()
    if (message === null) return
    if ('closed' in message) return this.#onClosed(message.closed)
    const { channel, data } = message
    const reader = this.#readers.get(channel)
    if (data.length === 0 || reader === undefined) return
    this.#lastActivityMs = performance.now()
    if (reader.push(data)) return
    this.#full.add(channel)
    this.#socket.pause()
  }

  #onClosed(channel: number): void {
    this.#readers.get(channel)?.push(null)
    this.#readers.delete(channel)
  }

  #fail(): void {
    this.#socket.close(PROTOCOL_ERROR, 'not a message of this protocol')
    this.#end(new CodedError('InvalidArgument', 'read a WebSocket: a message is none of its protocol'))
  }

  #end(reason: CodedError): void {
    if (this.#ended.signal.aborted) return
    for (const reader of this.#readers.values()) reader.destroy(reason)
    this.#readers.clear()
    this.#full.clear()
    this.#ended.abort(reason)
  }
}
