import { Duplex } from 'node:stream'

/** How a chunk is cut on its way. */
export type Cut = (chunk: Buffer) => Buffer[]

/** Both ends of a connection in memory. Like a socket, an end holds back its writer until the other end reads. */
export function duplexPair(cut: Cut = (chunk) => [chunk]): [Duplex, Duplex] {
  const left = new Half(cut)
  const right = new Half(cut)
  left.other = right
  right.other = left
  return [left, right]
}

class Half extends Duplex {
  other: Half | null = null
  readonly #cut: Cut
  #onRead: (() => void) | null = null

  constructor(cut: Cut) {
    super()
    this.#cut = cut
  }

  override _read(): void {
    const onRead = this.#onRead
    this.#onRead = null
    if (onRead) setImmediate(onRead)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.other?.arrive(Buffer.from(chunk), done)
  }

  override _final(done: () => void): void {
    this.other?.push(null)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    setImmediate(() => this.other?.destroy())
    done(error)
  }

  arrive(chunk: Buffer, done: () => void): void {
    let more = true
    for (const piece of this.#cut(chunk)) more = this.push(piece)
    if (more) setImmediate(done)
    else this.#onRead = done
  }
}
