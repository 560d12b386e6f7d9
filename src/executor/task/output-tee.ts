import { CodedError } from '../../core/errors.ts'
import type { OutputName } from '../attach/records.ts'

/** Of a client that reads slowly: the container does not wait for it. */
const MAX_BEHIND_BYTES = 4 * 1024 * 1024

/** One client's copy of one stream, from now on. */
export class OutputTee {
  readonly stream: OutputName
  #chunks: Uint8Array[] = []
  #bytes = 0
  #isEnded = false
  #isTooSlow = false
  #wake: (() => void) | undefined

  constructor(stream: OutputName) {
    this.stream = stream
  }

  add(chunk: Uint8Array): void {
    if (this.#isEnded || this.#isTooSlow) return
    this.#bytes += chunk.length
    this.#isTooSlow = this.#bytes > MAX_BEHIND_BYTES
    if (this.#isTooSlow) this.#chunks = []
    else this.#chunks.push(Uint8Array.from(chunk))
    this.#wake?.()
  }

  /** Nothing more comes. */
  end(): void {
    this.#isEnded = true
    this.#wake?.()
  }

  /**
   * What came next, as soon as there is something, and null after the last. One call at a time.
   * @throws CodedError `ResourceExhausted` when it has not been read quickly enough.
   */
  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    while (this.#chunks.length === 0 && !this.#isEnded && !this.#isTooSlow) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    if (this.#isTooSlow) throw new CodedError('ResourceExhausted', `read ${this.stream}: its client is too slow`)
    if (this.#chunks.length === 0) return null
    const all = new Uint8Array(this.#bytes)
    let length = 0
    for (const chunk of this.#chunks) {
      all.set(chunk, length)
      length += chunk.length
    }
    this.#chunks = []
    this.#bytes = 0
    return all
  }
}
