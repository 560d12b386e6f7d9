const NEWLINE = 0x0a
const SPACE = 0x20
const FULL = 0x46
const PARTIAL = 0x50
/** Up to so many bytes, looking at each is quicker than a call that does. */
const SHORT = 96

/** What a container's first process prints to. */
export type OutputName = 'stdout' | 'stderr'

/**
 * Takes what was printed to one stream out of a log in the CRI's format, byte for byte, wherever the log is cut.
 *
 * A record is `<time> <stream> P|F <text>\n`. The newline is the process's own after `F` and the monitor's after `P`; conmon
 * invents none at the end of an output that has no last one, and writes an empty `F` only when the process printed
 * the rest of its line, a newline, later. A line that is no record, as a full disk leaves them, is passed over.
 */
export class LogRecords {
  /** What follows the time, with a 0 for the tag. */
  readonly #expected: Buffer
  readonly #tagAt: number
  #state: 'time' | 'rest' | 'text' | 'other' = 'time'
  #matched = 0
  #isFull = false

  constructor(stream: OutputName) {
    this.#expected = Buffer.from(`${stream} \0 `)
    this.#tagAt = this.#expected.indexOf(0)
  }

  /** The next byte is the first of a record. */
  restart(): void {
    this.#state = 'time'
    this.#matched = 0
  }

  /** Reads the next bytes of the log. @returns how many bytes it put into `output`, which is as long as `input`. */
  take(input: Buffer, output: Buffer): number {
    let length = 0
    for (let at = 0; at < input.length; ) {
      if (this.#state === 'time' || this.#state === 'rest') {
        at = this.#takeHeader(input, at)
        continue
      }
      const end = endOfLine(input, at)
      if (this.#state === 'text') length = append(output, length, input, at, end)
      if (end < input.length) {
        if (this.#state === 'text' && this.#isFull) output[length++] = NEWLINE
        this.restart()
      }
      at = end + 1
    }
    return length
  }

  #takeHeader(input: Buffer, from: number): number {
    let at = from
    for (; at < input.length; at++) {
      const byte = input[at] ?? NEWLINE
      if (byte === NEWLINE) {
        this.restart()
      } else if (this.#state === 'time') {
        if (byte === SPACE) this.#state = 'rest'
      } else {
        if (!this.#matches(byte)) {
          this.#state = 'other'
          break
        }
        if (++this.#matched === this.#expected.length) {
          this.#state = 'text'
          break
        }
      }
    }
    return at + 1
  }

  #matches(byte: number): boolean {
    if (this.#matched !== this.#tagAt) return byte === this.#expected[this.#matched]
    this.#isFull = byte === FULL
    return this.#isFull || byte === PARTIAL
  }
}

/** Where the next newline is, or the length of the input. */
function endOfLine(input: Buffer, from: number): number {
  const near = Math.min(from + SHORT, input.length)
  for (let at = from; at < near; at++) if (input[at] === NEWLINE) return at
  const far = near < input.length ? input.indexOf(NEWLINE, near) : -1
  return far === -1 ? input.length : far
}

/** Copies a part of the input. @returns the new length of the output. */
function append(output: Buffer, length: number, input: Buffer, from: number, to: number): number {
  if (to - from > SHORT) return length + input.copy(output, length, from, to)
  let end = length
  for (let at = from; at < to; at++) output[end++] = input[at] ?? 0
  return end
}
