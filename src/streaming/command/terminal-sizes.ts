import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { CodedError } from '../../core/errors.ts'
import type { TerminalSize } from '../../executor/types.ts'

/** One size takes 30. */
const MAX_SIZE_CHARS = 256

/**
 * Reads what a client says of its terminal: JSON objects `{"Width":80,"Height":24}`, one after the other. What is none is
 * told to `onBad`, and then nothing more is read. Of those that come at once only the last counts.
 */
export class TerminalSizes {
  readonly #decoder = new StringDecoder('utf8')
  #text = ''
  #last: TerminalSize | undefined
  #listener: (size: TerminalSize) => void = () => {}

  constructor(source: Readable, onBad: (error: CodedError) => void) {
    source.on('data', (chunk: Buffer) => {
      try {
        this.#take(this.#decoder.write(chunk))
      } catch (error) {
        source.removeAllListeners('data')
        source.resume()
        onBad(error as CodedError)
      }
    })
  }

  /** With the last size at once, if there was one. */
  onSize(listener: (size: TerminalSize) => void): void {
    this.#listener = listener
    if (this.#last) listener(this.#last)
  }

  #take(text: string): void {
    const objects = `${this.#text}${text}`.split('}')
    this.#text = objects.pop() ?? ''
    const size = objects.map((object) => parseSize(`${object}}`)).at(-1)
    if (this.#text.length > MAX_SIZE_CHARS) throw badSize(this.#text)
    if (!size) return
    this.#last = size
    this.#listener(size)
  }
}

function parseSize(text: string): TerminalSize {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw badSize(text)
  }
  if (typeof value !== 'object' || value === null) throw badSize(text)
  const { Width: width = 0, Height: height = 0 } = value as Record<string, unknown>
  if (!isUint16(width) || !isUint16(height)) throw badSize(text)
  return { width, height }
}

function isUint16(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0xffff
}

function badSize(text: string): CodedError {
  const shown = JSON.stringify(text.slice(0, 80))
  return new CodedError('InvalidArgument', `read the size of the terminal: ${shown} is none`)
}
