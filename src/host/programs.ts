import { CodedError, type ErrorCode, errorCode, errorMessage } from '../core/errors.ts'
import { Thread } from '../core/thread.ts'
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

export interface ProgramCalls {
  run: readonly [ProgramCall, RunResult | RunFailure]
  launch: readonly [ProgramCall, string]
  abort: readonly [{ readonly key: number; readonly code: ErrorCode; readonly message: string }, void]
}

/**
 * Runs programs from a thread of their own. Starting one blocks the thread that does it until the kernel has got the
 * new program going, milliseconds each on a busy node: nobody who reads shall wait for that.
 */
export class Programs implements AsyncDisposable {
  #thread: Thread<ProgramCalls> | undefined
  #lastKey = 0

  /** See `run` in `run.ts`. */
  readonly run = async (file: string, args: readonly string[], options: RunOptions): Promise<RunResult> => {
    const outcome = await this.#call('run', file, args, options)
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
  async launchMonitor(
    file: string,
    args: readonly string[],
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<string> {
    return this.#call('launch', file, args, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }

  async #call<M extends 'run' | 'launch'>(
    method: M,
    file: string,
    args: readonly string[],
    { signal, ...options }: RunOptions,
  ): Promise<ProgramCalls[M][1]> {
    signal?.throwIfAborted()
    if (!this.#thread || this.#thread.dead) {
      this.#thread = new Thread<ProgramCalls>('programs', new URL('./programs-thread.ts', import.meta.url))
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
    try {
      return await thread.call(method, { key, file, args, options })
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }
}
