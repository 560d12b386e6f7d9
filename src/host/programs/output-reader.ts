import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net'

/** What one read takes; a pipe holds no more unless somebody enlarges it. */
const READ_BYTES = 64 * 1024

/** ES2024: Node.js 20 has it, and the types of our language level do not. */
interface GrowingBuffer extends ArrayBuffer {
  resize(bytes: number): void
}

const GrowingBuffer = ArrayBuffer as unknown as new (
  bytes: number,
  options: { readonly maxByteLength: number },
) => GrowingBuffer

/** How much output may be kept at the same time, by all who share it. */
export class OutputBudget {
  /** All reads go through it: its content is taken before the next. */
  readonly scratch = Buffer.allocUnsafeSlow(READ_BYTES)
  #left: number

  constructor(maxBytes: number) {
    this.#left = maxBytes
  }

  /** Whether there was so much left; then it is taken. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false
    this.#left -= bytes
    return true
  }

  give(bytes: number): void {
    this.#left += bytes
  }
}

/** The read end of a pipe, as bytes. What comes after the limit, or when the budget is used up, is read and dropped. */
export class OutputReader implements Disposable {
  readonly #socket: Socket
  readonly #maxBytes: number
  readonly #budget: OutputBudget
  /** It grows without copies, and is given back at once in place of when the collector of garbage comes by. */
  #memory: GrowingBuffer | undefined
  #length = 0
  #full = false
  /** How much has come, kept or not. */
  receivedBytes = 0

  /** @param fd is closed with the reader. */
  constructor(fd: number, maxBytes: number, budget: OutputBudget) {
    this.#maxBytes = maxBytes
    this.#budget = budget
    const onread = { buffer: budget.scratch, callback: (count: number) => this.#take(count) }
    const options: SocketConstructorOpts & { onread: OnReadOpts } = { fd, readable: true, writable: false, onread }
    this.#socket = new Socket(options)
    // What was read until then is all there is.
    this.#socket.on('error', () => this.#socket.destroy())
    this.#socket.resume()
  }

  /** A copy of what was kept, in memory of its own. */
  copy(): Uint8Array<ArrayBuffer> {
    return this.#memory ? new Uint8Array(this.#memory, 0, this.#length).slice() : new Uint8Array(0)
  }

  get isClosed(): boolean {
    return this.#socket.closed
  }

  /** Calls back when nobody can write any more, or the reader was closed. */
  onClosed(callback: () => void): void {
    this.#socket.once('close', callback)
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
    this.#budget.give(this.#memory?.byteLength ?? 0)
    this.#memory?.resize(0)
    this.#full = true
  }

  #take(count: number): boolean {
    this.receivedBytes += count
    const size = Math.min(count, this.#maxBytes - this.#length)
    if (size > 0 && !this.#full && this.#makeRoom(this.#length + size)) {
      new Uint8Array(this.#memory ?? []).set(this.#budget.scratch.subarray(0, size), this.#length)
      this.#length += size
    }
    return true
  }

  /** In one piece, doubled as it fills up: a command that writes byte by byte shall not cost an object for each. */
  #makeRoom(bytes: number): boolean {
    this.#memory ??= new GrowingBuffer(0, { maxByteLength: this.#maxBytes })
    const { byteLength } = this.#memory
    if (bytes <= byteLength) return true
    const size = Math.min(Math.max(bytes, 2 * byteLength), this.#maxBytes)
    this.#full = !this.#budget.take(size - byteLength)
    if (!this.#full) this.#memory.resize(size)
    return !this.#full
  }
}
