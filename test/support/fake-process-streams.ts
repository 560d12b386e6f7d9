import { PassThrough } from 'node:stream'
import type { ProcessStreams, StreamsWanted, TerminalSize } from '../../src/executor/types.ts'

/** A process in memory: a test reads what it was told, and says what it writes and how it ends. */
export class FakeProcessStreams implements ProcessStreams {
  readonly stdin: PassThrough | null
  readonly stdout: PassThrough | null
  readonly stderr: PassThrough | null
  readonly sizes: TerminalSize[] = []
  readonly ended: Promise<number>
  /** Resolves when it was given up by the one who had it. */
  readonly disposed: Promise<void>
  disposals = 0
  #end: (code: number) => void = () => {}
  #fail: (error: unknown) => void = () => {}
  #onDisposed: () => void = () => {}

  constructor({ stdin, stdout, stderr }: StreamsWanted = { stdin: true, stdout: true, stderr: true }) {
    this.stdin = stdin ? new PassThrough() : null
    this.stdout = stdout ? new PassThrough() : null
    this.stderr = stderr ? new PassThrough() : null
    this.ended = new Promise((resolve, reject) => {
      this.#end = resolve
      this.#fail = reject
    })
    this.ended.catch(() => {})
    this.disposed = new Promise((resolve) => {
      this.#onDisposed = resolve
    })
  }

  /** The process ends, and has written all that it will write. */
  exit(code: number): void {
    this.stdout?.end()
    this.stderr?.end()
    this.#end(code)
  }

  /** There is no exit code to be had. */
  fail(error: unknown): void {
    this.stdout?.end()
    this.stderr?.end()
    this.#fail(error)
  }

  resize(size: TerminalSize): void {
    this.sizes.push(size)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposals += 1
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream?.destroy()
    this.#onDisposed()
  }
}
