import { CodedError, type ErrorCode, errorCode, errorMessage } from '../../core/errors.ts'
import { Thread } from '../../core/thread.ts'
import type { ExecStatus } from './exec-program.ts'
import type { ExecEnding, RunExecProgram } from './exec-run.ts'
import type { StreamedExecProgram } from './exec-stream.ts'
import type { LaunchOptions } from './monitor.ts'
import { ExecError, expectSuccess, type RunOptions, type RunResult } from './outcome.ts'

/** A failed run, as it crosses from one thread to another. */
export interface RunFailure {
  readonly code: ErrorCode
  readonly message: string
  readonly exitCode: number | undefined
  readonly stderr: string
  /** Why it could not be started, e.g. `ETXTBSY`. */
  readonly errno: string | undefined
}

export interface ProgramCall {
  /** By which it can be aborted. */
  readonly key: number
  readonly file: string
  readonly args: readonly string[]
  readonly options: Omit<RunOptions, 'signal'>
}

export interface LaunchCall extends Omit<ProgramCall, 'options'> {
  readonly options: Omit<LaunchOptions, 'signal'>
}

export interface ProgramCalls {
  run: readonly [ProgramCall, RunResult | RunFailure]
  launch: readonly [LaunchCall, string]
  exec: readonly [{ readonly key: number; readonly program: RunExecProgram }, ExecEnding]
  stream: readonly [{ readonly key: number; readonly program: StreamedExecProgram }, ExecStatus]
  hold: readonly [{ readonly key: number; readonly what: string }, void]
  abort: readonly [{ readonly key: number; readonly code: ErrorCode; readonly message: string }, void]
}

/**
 * Runs programs from a thread of their own. Starting one blocks the thread that does it until the kernel has got the
 * new program going, milliseconds each on a busy node: nobody who reads shall wait for that.
 */
export class Programs implements AsyncDisposable {
  readonly #pods = new ProgramsThread('programs')
  /** One of their own, so that nothing waits for what a command prints, and no probe for a pod. */
  readonly #execs = new ProgramsThread('execs')

  /** See `run` in `run.ts`. */
  readonly run = async (file: string, args: readonly string[], options: RunOptions): Promise<RunResult> => {
    const { signal, ...rest } = options
    const outcome = await this.#pods.call('run', { file, args, options: rest }, signal)
    if (!('code' in outcome)) return outcome
    const { code, message, errno, ...details } = outcome
    const cause = errno === undefined ? undefined : Object.assign(new Error(errno), { code: errno })
    throw new ExecError(code, message, { ...details, cause })
  }

  /** Like {@link Programs.run}, but an exit code other than 0 is an {@link ExecError} `Internal`. */
  async runOk(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    return expectSuccess(file, args, await this.run(file, args, options))
  }

  /** See `launchMonitor` in `monitor.ts`. */
  async launchMonitor(file: string, args: readonly string[], options: LaunchOptions): Promise<string> {
    const { signal, ...rest } = options
    return this.#pods.call('launch', { file, args, options: rest }, signal)
  }

  /** See `execRun` in `exec-run.ts`. */
  async exec(program: RunExecProgram, signal: AbortSignal): Promise<ExecEnding> {
    return this.#execs.call('exec', { program }, signal)
  }

  /**
   * See `execStream` in `exec-stream.ts`. The descriptors belong to the call, which begins before this returns.
   * @param terminal what processes hold that are killed on abort, too, as soon as it is known: see `ProcessTree`.
   */
  async stream(
    program: StreamedExecProgram,
    signal: AbortSignal,
    terminal?: Promise<string | undefined>,
  ): Promise<ExecStatus> {
    return this.#execs.call('stream', { program }, signal, terminal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#pods[Symbol.asyncDispose](), this.#execs[Symbol.asyncDispose]()])
  }
}

/** A thread that is started when it is first needed, and again when it died. */
class ProgramsThread implements AsyncDisposable {
  readonly #name: string
  #thread: Thread<ProgramCalls> | undefined
  #lastKey = 0

  constructor(name: string) {
    this.#name = name
  }

  async call<M extends 'run' | 'launch' | 'exec' | 'stream'>(
    method: M,
    argument: Omit<ProgramCalls[M][0], 'key'>,
    signal: AbortSignal | undefined,
    terminal?: Promise<string | undefined>,
  ): Promise<ProgramCalls[M][1]> {
    signal?.throwIfAborted()
    if (!this.#thread || this.#thread.dead) {
      this.#thread = new Thread<ProgramCalls>(this.#name, new URL('./programs-thread.ts', import.meta.url))
    }
    const thread = this.#thread
    const key = ++this.#lastKey
    const onAbort = (): void => {
      const reason: unknown = signal?.reason
      const abort = {
        key,
        code: reason instanceof CodedError ? errorCode(reason) : 'Canceled',
        message: errorMessage(reason),
      } as const
      // It answers by the end of the call that it aborts.
      thread.call('abort', abort).catch(() => undefined)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    terminal
      // Without a thread there is nothing to be killed any more.
      ?.then((what) => (what === undefined ? undefined : thread.call('hold', { key, what })))
      .catch(() => undefined)
    try {
      return await thread.call(method, { key, ...argument } as ProgramCalls[M][0])
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }
}
