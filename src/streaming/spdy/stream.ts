import { Duplex } from 'node:stream'
import type { SpdyHeaders, SpdyStream } from './types.ts'

/** What a kept piece costs besides its bytes. */
const PIECE_BYTES = 256

/** What a stream needs of its session. */
export interface StreamSession {
  /** Writes data, and calls back when the connection has taken it. */
  send(stream: SessionStream, payload: Buffer, fin: boolean, done: () => void): void
  reply(stream: SessionStream, headers: SpdyHeaders): void
  /** Keeps account of what waits for readers: more, or less. */
  keep(bytes: number): void
  /** The stream is closed. `reset` when the peer does not know yet. */
  release(stream: SessionStream, reset: boolean): void
}

/** One stream of a session. What the peer sends waits here until somebody reads it. */
export class SessionStream extends Duplex implements SpdyStream {
  readonly id: number
  readonly headers: SpdyHeaders
  readonly #session: StreamSession
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #wanted = false
  #peerEnded = false
  #ended = false
  /** Whether the peer has to be told when it is destroyed. */
  #live = true
  /** What waits for the peer's answer; null when there is one. */
  #unanswered: (() => void)[] | null
  #replied: boolean

  /** `opened`: by us; nothing is written then before the peer has answered, since Go servers drop it. */
  constructor(id: number, headers: SpdyHeaders, session: StreamSession, opened: boolean) {
    // What waits is in our own hands, where it is counted, and not in those of the Duplex.
    super({ readableHighWaterMark: 1, writableHighWaterMark: 64 * 1024 })
    this.id = id
    this.headers = headers
    this.#session = session
    this.#unanswered = opened ? [] : null
    this.#replied = opened
    // A reset that comes while nobody uses the stream is nobody's failure.
    this.on('error', () => undefined)
  }

  get peerEnded(): boolean {
    return this.#peerEnded
  }

  /** Whether there is something to be written yet. */
  get unwritten(): boolean {
    return !this.destroyed && (this.writableLength > 0 || (this.writableEnded && !this.#ended))
  }

  reply(headers: SpdyHeaders = {}): void {
    if (this.#replied || this.destroyed) return
    this.#replied = true
    this.#session.reply(this, headers)
  }

  /** The peer has sent something. */
  receive(payload: Buffer): void {
    if (this.#wanted) this.#wanted = this.push(payload)
    else this.#keep(payload)
  }

  /** The peer has sent all. */
  receiveEnd(): void {
    this.#peerEnded = true
    this.#deliver()
  }

  /** The peer has answered. @returns whether that was the first answer. */
  answered(): boolean {
    const waiting = this.#unanswered
    this.#unanswered = null
    for (const write of waiting ?? []) write()
    return waiting !== null
  }

  /** The peer has reset it, or is gone. */
  fail(error: Error): void {
    this.#live = false
    this.destroy(error)
  }

  override _read(): void {
    this.#wanted = true
    this.#deliver()
  }

  override _write(payload: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(payload, false, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#send(Buffer.alloc(0), true, () => {
      this.#ended = true
      done()
    })
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#session.release(this, this.#live && !(this.#peerEnded && this.#ended))
    this.#waiting = []
    this.#session.keep(-this.#waitingBytes)
    this.#waitingBytes = 0
    this.#unanswered = null
    done(error)
  }

  #send(payload: Buffer, fin: boolean, done: () => void): void {
    const write = (): void => this.#session.send(this, payload, fin, done)
    // Go clients drop what comes before the answer.
    this.reply()
    if (this.#unanswered) this.#unanswered.push(write)
    else write()
  }

  #keep(payload: Buffer): void {
    // A piece must not hold on to all of the memory that it came in.
    const piece = payload.length * 2 < payload.buffer.byteLength ? unshared(payload) : payload
    this.#waiting.push(piece)
    this.#account(piece.length + PIECE_BYTES)
  }

  #deliver(): void {
    while (this.#wanted) {
      const piece = this.#waiting.shift()
      if (!piece) break
      this.#account(-piece.length - PIECE_BYTES)
      this.#wanted = this.push(piece)
    }
    if (this.#peerEnded && this.#waiting.length === 0 && !this.readableEnded) this.push(null)
  }

  #account(bytes: number): void {
    this.#waitingBytes += bytes
    this.#session.keep(bytes)
  }
}

function unshared(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}
