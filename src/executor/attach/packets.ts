import { Readable } from 'node:stream'
import { CodedError } from '../../core/errors.ts'
import type { OutputName } from './records.ts'

/** The first byte of what conmon sends. */
const STREAMS: Readonly<Record<number, OutputName>> = { 2: 'stdout', 3: 'stderr' }
/** As the relay writes them: that byte, and the length of the rest. */
const HEADER_BYTES = 5
/** Of a client that reads slowly. */
const MAX_BEHIND_BYTES = 4 * 1024 * 1024

/** Takes the packets of an attach socket, as the relay frames them, apart, however they are cut. */
export class Packets {
  readonly #onOutput: (stream: OutputName, bytes: Buffer) => void
  readonly #header = Buffer.alloc(HEADER_BYTES)
  #headerLength = 0
  #left = 0

  constructor(onOutput: (stream: OutputName, bytes: Buffer) => void) {
    this.#onOutput = onOutput
  }

  take(input: Buffer): void {
    for (let at = 0; at < input.length; ) {
      if (this.#headerLength < HEADER_BYTES) {
        const count = input.copy(this.#header, this.#headerLength, at)
        this.#headerLength += count
        at += count
        if (this.#headerLength === HEADER_BYTES) this.#left = this.#header.readUInt32BE(1)
      } else {
        const bytes = input.subarray(at, at + this.#left)
        const stream = STREAMS[this.#header[0] ?? 0]
        if (stream) this.#onOutput(stream, bytes)
        this.#left -= bytes.length
        at += bytes.length
      }
      if (this.#headerLength === HEADER_BYTES && this.#left === 0) this.#headerLength = 0
    }
  }
}

/**
 * One stream of what comes from an attach socket. conmon, and with it the container, waits for whoever does not take that: a
 * client that is too slow is cut off with `ResourceExhausted`.
 */
export class SocketOutput extends Readable {
  readonly #what: string

  constructor(what: string) {
    super()
    this.#what = what
  }

  add(bytes: Buffer): void {
    if (this.destroyed) return
    if (this.readableLength > MAX_BEHIND_BYTES) {
      this.destroy(new CodedError('ResourceExhausted', `${this.#what}: its client is too slow`))
    } else {
      this.push(bytes)
    }
  }

  /** Nothing more comes. */
  finish(error?: Error): void {
    if (error) this.destroy(error)
    else if (!this.destroyed) this.push(null)
  }

  override _read(): void {}
}
