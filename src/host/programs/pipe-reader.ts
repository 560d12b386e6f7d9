import { Socket } from 'node:net'
import { abortReason } from '../../core/deadline.ts'

/** The read end of a pipe, as text. */
export class PipeReader implements Disposable {
  readonly #socket: Socket
  readonly #maxBytes: number
  readonly #decoder = new TextDecoder()
  #bytes = 0
  /** What was read so far. */
  text = ''

  /** @param fd is closed with the reader. @param maxBytes what comes after that is dropped. */
  constructor(fd: number, maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#socket = new Socket({ fd, readable: true, writable: false })
    this.#socket.on('data', (data: Buffer) => {
      this.#bytes += data.length
      if (this.#bytes <= maxBytes) this.text += this.#decoder.decode(data, { stream: true })
    })
    // What was read until then is all there is.
    this.#socket.on('error', () => this.#socket.destroy())
  }

  /** Whether more came than is kept. */
  get overflowed(): boolean {
    return this.#bytes > this.#maxBytes
  }

  get isClosed(): boolean {
    return this.#socket.closed
  }

  /** Calls back whenever something was read. */
  onData(callback: () => void): void {
    this.#socket.on('data', callback)
  }

  /** Resolves when nobody can write any more, or the reader was closed. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.closed) resolve()
      else this.#socket.once('close', () => resolve())
    })
  }

  /** The first line, or what there is of it when all writers are gone. */
  async firstLine(signal: AbortSignal): Promise<string> {
    signal.throwIfAborted()
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(abortReason(signal))
      signal.addEventListener('abort', onAbort, { once: true })
      this.onData(() => {
        if (this.text.includes('\n')) this.#socket.destroy()
      })
      void this.closed().then(() => {
        signal.removeEventListener('abort', onAbort)
        resolve(this.text.trim())
      })
    })
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }
}
