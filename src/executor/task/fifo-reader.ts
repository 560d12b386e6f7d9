import { closeSync, constants, openSync, readSync } from 'node:fs'
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net'
import { CodedError, errnoOf } from '../../core/errors.ts'

/** What a FIFO holds. */
const READ_BYTES = 64 * 1024

// All reads of the thread go through it: its content is taken before the next.
const scratch = Buffer.allocUnsafeSlow(READ_BYTES)

/**
 * Reads a FIFO that others open for writing, before or after us. It is read on when its content has been dealt with, and
 * whoever writes more than it holds waits for that.
 */
export class FifoReader implements Disposable {
  readonly #fd: number
  readonly #socket: Socket
  readonly #take: (chunk: Buffer) => void
  readonly #closed: Promise<void>

  /** @param take must have done with the chunk when it returns. @throws CodedError `NotFound` when there is no FIFO. */
  constructor(path: string, take: (chunk: Buffer) => void) {
    this.#take = take
    try {
      // Never waits for a writer.
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      throw new CodedError('NotFound', `open FIFO ${path}: there is none`, { cause: error })
    }
    const onread = { buffer: scratch, callback: (count: number) => this.#onRead(count) }
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      fd: this.#fd,
      readable: true,
      writable: false,
      onread,
    }
    try {
      this.#socket = new Socket(options)
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
    // What was read until then is all there is.
    this.#socket.on('error', () => this.#socket.destroy())
    this.#socket.resume()
    this.#closed = new Promise((resolve) => {
      this.#socket.once('close', () => resolve())
    })
  }

  /**
   * Resolves when everything was read, and nobody can write any more: to be asked when those who shall write have come.
   * It is also when the reader has been disposed of.
   */
  async drained(): Promise<void> {
    while (!this.#socket.destroyed && this.#readNow()) await new Promise(setImmediate)
    await this.#closed
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  #onRead(count: number): boolean {
    this.#take(scratch.subarray(0, count))
    return true
  }

  /** The end of a FIFO that nobody has opened for writing since we opened it is told by nothing but a read. */
  #readNow(): boolean {
    let count: number
    try {
      count = readSync(this.#fd, scratch)
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return false
      throw error
    }
    if (count > 0) this.#take(scratch.subarray(0, count))
    else this.#socket.destroy()
    return count > 0
  }
}
