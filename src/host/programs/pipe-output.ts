import { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { Descriptors } from '../descriptors.ts'

/** What a pipe holds. */
const PIPE_BYTES = 64 * 1024

/**
 * The read end of a pipe. It is read only as the reader reads, and its end need not be that of all writers: see
 * {@link PipeOutput.finish}.
 */
export class PipeOutput extends Readable {
  readonly #fd: number
  readonly #descriptors: Descriptors
  readonly #socket: Socket
  /** How much has come. */
  receivedBytes = 0
  /** What may still come. */
  #left = Number.POSITIVE_INFINITY
  /** What nobody is given until {@link PipeOutput.release}. */
  #held: Buffer[] | undefined
  #heldBytes = 0

  /**
   * @param fd is closed with it.
   * @param onHeld calls back when there is something to read, and holds that back until it is released.
   */
  constructor(fd: number, deps: { readonly descriptors: Descriptors }, onHeld?: () => void) {
    super({ highWaterMark: PIPE_BYTES })
    this.#fd = fd
    this.#descriptors = deps.descriptors
    this.#socket = new Socket({ fd, readable: true, writable: false })
    this.#socket.on('data', (chunk: Buffer) => this.#take(chunk))
    this.#socket.on('close', () => this.#end())
    // What was read until then is all there is.
    this.#socket.on('error', () => this.#socket.destroy())
    if (!onHeld) {
      this.#socket.pause()
      return
    }
    this.#held = []
    this.#socket.once('data', onHeld)
  }

  /** Gives the reader what was held back, and goes on; once. */
  release(): void {
    const held = this.#held
    if (!held) return
    this.#held = undefined
    let isWanted = true
    for (const chunk of held) isWanted = this.push(chunk)
    if (this.#socket.closed || this.#left <= 0) this.push(null)
    else if (isWanted) this.#socket.resume()
    else this.#socket.pause()
  }

  /** What was held back, with all that is in the pipe; nobody is given it, and the reader finds nothing. */
  takeHeld(): Buffer {
    const held = this.#held ?? []
    this.#held = undefined
    if (!this.#socket.destroyed) {
      const rest = Buffer.allocUnsafe(PIPE_BYTES)
      const count = this.#descriptors.read(this.#fd, rest)
      if (count > 0) held.push(rest.subarray(0, count))
    }
    this.#socket.destroy()
    this.push(null)
    return Buffer.concat(held)
  }

  /** Whether nothing comes out of the pipe any more. */
  get isClosed(): boolean {
    return this.#socket.destroyed
  }

  /** What is in the pipe, and was not taken out of it yet. */
  get unreadBytes(): number {
    return this.isClosed ? 0 : this.#socket.readableLength + this.#descriptors.bytesReadable(this.#fd)
  }

  /**
   * Lets it end after what is in the pipe now, whoever still can write to it.
   * @param moreBytes so much may come beyond that, of what somebody else has in hand.
   */
  finish(moreBytes = 0): void {
    if (this.#socket.destroyed) return
    this.#left = this.unreadBytes + moreBytes
    if (this.#left === 0) this.#socket.destroy()
  }

  override _read(): void {
    if (!this.#held) this.#socket.resume()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#socket.destroy()
    callback(error)
  }

  #take(data: Buffer): void {
    this.receivedBytes += data.length
    const chunk = data.length > this.#left ? data.subarray(0, this.#left) : data
    this.#left -= chunk.length
    if (this.#held) {
      this.#held.push(chunk)
      this.#heldBytes += chunk.length
      if (this.#heldBytes >= PIPE_BYTES) this.#socket.pause()
    } else if (chunk.length > 0 && !this.push(chunk)) {
      this.#socket.pause()
    }
    if (this.#left === 0) this.#socket.destroy()
  }

  #end(): void {
    if (!this.#held && !this.destroyed) this.push(null)
  }
}
