import { type Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { callbackify } from 'node:util'
import { deadline } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import type { ExitStatus, ProcessStreams, TerminalSize } from '../types.ts'

/** How long the process may take to read what was typed by a client that has gone. */
const LAST_INPUT_MS = 1000

/** The streams of a container's output, and what ends them once everything that was printed can be read. */
export interface AttachedOutput {
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  end(): void
}

/** Where the input of all clients of one container goes. */
export interface AttachInput {
  /** Returns when there is room for more. What nobody can read any more is dropped. */
  write(chunk: Buffer): Promise<void>
  /** Ends the input of a container that has it end with its first client. */
  endInput(): Promise<void>
}

export interface SessionParts {
  /** Of the container. */
  readonly id: string
  readonly output: AttachedOutput
  /** Null when the client has none. */
  readonly input: AttachInput | null
  readonly wait: (signal: AbortSignal) => Promise<ExitStatus>
  /** Of its terminal, with a size that is known; nothing waits for it. */
  readonly resize: (size: TerminalSize) => void
  /** Called once, when the session is over. */
  readonly release: () => void
}

/** One client of a container's first process. */
export class AttachSession implements ProcessStreams {
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  readonly ended: Promise<number>
  readonly #parts: SessionParts
  readonly #end = new AbortController()
  #closing: Promise<void> | undefined

  constructor(parts: SessionParts) {
    const { output, input, wait } = parts
    this.#parts = parts
    this.stdin = input && inputTo(input)
    this.stdout = output.stdout
    this.stderr = output.stderr
    this.ended = wait(this.#end.signal).then(({ code }) => {
      output.end()
      return code
    })
    // Whoever is interested in it has it from us.
    this.ended.catch(() => undefined)
  }

  resize(size: TerminalSize): void {
    if (size.width > 0 && size.height > 0) this.#parts.resize(size)
  }

  /** Gives the streams up; `ended` is rejected unless the process has ended. The container goes on. */
  async close(why: Error): Promise<void> {
    this.#closing ??= this.#close(why)
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(new CodedError('Canceled', `attach to container ${this.#parts.id}: given up`))
  }

  async #close(why: Error): Promise<void> {
    this.#end.abort(why)
    for (const stream of [this.stdout, this.stderr]) stream?.destroy()
    try {
      await this.#passLastInput()
      await this.#parts.input?.endInput()
    } finally {
      this.#parts.release()
    }
  }

  /** A client may type and leave at once. */
  async #passLastInput(): Promise<void> {
    const { stdin } = this
    if (!stdin || stdin.destroyed) return
    using limit = deadline('pass on what was typed', LAST_INPUT_MS)
    stdin.end()
    // What the process does not read is dropped.
    await finished(stdin, { signal: limit.signal }).catch(() => undefined)
    stdin.destroy()
  }
}

/** As a stream: what is written to it goes there, and its end. */
export function inputTo(input: AttachInput): Writable {
  const write = callbackify((chunk: Buffer) => input.write(chunk))
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => write(chunk, done),
    final: callbackify(() => input.endInput()),
  })
}
