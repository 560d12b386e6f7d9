import { addAbortListener } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { CodedError } from '../../core/errors.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import { PipeOutput } from '../../host/programs/pipe-output.ts'
import { inputTo } from '../attach/session.ts'
import type { ProcessStreams, StreamsWanted, TerminalSize } from '../types.ts'
import { endOfFileOf } from './container-streams.ts'
import { drained, openOutput } from './exec-output.ts'
import { givenUp } from './task-calls.ts'
import type { TaskCommand } from './task-command.ts'
import { TaskInput } from './task-input.ts'

/** Of rows and columns, in the kernel. */
const MAX_SIZE = 0xffff

export interface TaskSessionOptions {
  /** For messages. */
  readonly what: string
  readonly task: TaskCommand
  readonly wanted: StreamsWanted
  readonly terminal: boolean
}

export interface TaskSessionDeps {
  readonly descriptors: Descriptors
  /** Called once, when the command is over and nothing of its output is read any more. */
  readonly onOver: () => void
  /** Told what goes wrong and nobody waits for. */
  readonly onTrouble: (error: unknown) => void
}

/** The streams of a command, for the client that has it run. */
export class TaskSession implements ProcessStreams {
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  readonly ended: Promise<number>
  readonly #options: TaskSessionOptions
  readonly #deps: TaskSessionDeps
  readonly #input: TaskInput | null
  readonly #outputs: readonly PipeOutput[]
  readonly #life = new AbortController()
  #resolveEnded: (code: number) => void = () => undefined
  #rejectEnded: (error: unknown) => void = () => undefined
  #isRun = false
  /** Why it is killed. */
  #reason: Error | undefined
  #killed: Promise<void> | undefined
  #resized: Promise<unknown> = Promise.resolve()

  /** Opens the FIFOs of a command that is to be started. */
  constructor(options: TaskSessionOptions, deps: TaskSessionDeps) {
    this.#options = options
    this.#deps = deps
    const { task, wanted, terminal } = options
    const { descriptors } = deps
    const open = (path: string): PipeOutput | null => (path === '' ? null : new PipeOutput(openOutput(path), deps))
    const [stdout, stderr] = [open(task.stdio.stdout), open(task.stdio.stderr)]
    this.#outputs = [stdout, stderr].filter((output) => output !== null)
    for (const [output, isWanted] of [
      [stdout, wanted.stdout],
      [stderr, wanted.stderr],
    ] as const) {
      if (!isWanted) output?.resume()
    }
    const endOfFile = (): number | null => endOfFileOf(descriptors, task.pid)
    const inputDeps = { descriptors, closeIo: () => task.closeIo(), endOfFile }
    const { stdin: path } = task.stdio
    this.#input = path === '' ? null : new TaskInput({ path, closes: true, terminal }, inputDeps, true)
    const input = this.#input
    // A size that came before what is typed is there before it.
    const inOrder = input && {
      write: async (chunk: Buffer) => this.#resized.then(() => input.write(chunk)),
      endInput: async () => this.#resized.then(() => input.endInput()),
    }
    this.stdin = inOrder && inputTo(inOrder)
    this.stdout = wanted.stdout ? stdout : null
    this.stderr = wanted.stderr ? stderr : null
    this.ended = new Promise((resolve, reject) => {
      this.#resolveEnded = resolve
      this.#rejectEnded = reject
    })
    // Whoever is interested asks.
    this.ended.catch(() => undefined)
  }

  /** @param start has the command started; whatever it throws, the session is to be disposed of then. */
  async start(start: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const tie = addAbortListener(signal, () => void this.#kill(givenUp(this.#options.what, signal)))
    try {
      await start()
    } catch (error) {
      tie[Symbol.dispose]()
      this.#rejectEnded(error)
      throw error
    }
    this.#isRun = true
    this.#input?.begun()
    void this.#run().finally(() => tie[Symbol.dispose]())
  }

  resize({ width, height }: TerminalSize): void {
    const { terminal, task } = this.#options
    if (!terminal || width <= 0 || height <= 0) return
    const size = { width: Math.min(width, MAX_SIZE), height: Math.min(height, MAX_SIZE) }
    // In order: the last is the one that counts. One that has ended has no size.
    this.#resized = this.#resized.then(() => task.resize(size)).catch(this.#deps.onTrouble)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kill(new CodedError('Canceled', `${this.#options.what}: given up`))
    for (const output of this.#outputs) output.destroy()
    this.#input?.[Symbol.dispose]()
    if (!this.#isRun) this.#deps.onOver()
  }

  async #run(): Promise<void> {
    try {
      const { code } = await this.#options.task.ended(this.#life.signal)
      if (this.#reason) throw this.#reason
      this.#resolveEnded(code)
      await drained(this.#outputs)
    } catch (error) {
      this.#rejectEnded(error)
      for (const output of this.#outputs) output.finish()
    }
    this.#input?.[Symbol.dispose]()
    // A client may take its time to read the rest.
    await Promise.all(this.#outputs.map((output) => finished(output).catch(() => undefined)))
    this.#deps.onOver()
  }

  /** Kills the command with all its processes, unless it has ended. */
  async #kill(reason: Error): Promise<void> {
    this.#killed ??= this.#killOnce(reason)
    await this.#killed
  }

  async #killOnce(reason: Error): Promise<void> {
    const isOver = await Promise.race([
      this.ended.then(
        () => true,
        () => true,
      ),
      Promise.resolve(false),
    ])
    if (isOver) return
    this.#reason = reason
    try {
      await this.#options.task.kill()
    } catch (error) {
      this.#deps.onTrouble(error)
    }
    this.#life.abort(reason)
    this.#rejectEnded(reason)
  }
}
