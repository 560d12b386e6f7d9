import type { Socket } from 'node:net'
import { Writable } from 'node:stream'

/**
 * What is written goes into a socket, and its end is the end of that. When nobody reads from that any more, the rest is
 * dropped: whoever writes is not told, and does not wait.
 */
export class PipeInput extends Writable {
  readonly #socket: Socket
  #waiting: (() => void) | undefined

  /** @param socket belongs to somebody else, who destroys it. */
  constructor(socket: Socket) {
    super()
    this.#socket = socket
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#proceed())
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.#waiting = callback
    if (this.#socket.writable) this.#socket.write(chunk, () => this.#proceed())
    else this.#proceed()
  }

  override _final(callback: () => void): void {
    this.#socket.end()
    callback()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#socket.end()
    callback(error)
  }

  #proceed(): void {
    const callback = this.#waiting
    this.#waiting = undefined
    callback?.()
  }
}
