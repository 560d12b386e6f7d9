import { abortReason } from '../../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import type { ExitStatus } from '../types.ts'
import type { TaskService } from './types.ts'
import { observedExit } from '../../client/exit.ts'
import { unknownExit } from '../../core/unknown-exit.ts'

/** A long poll is made anew after this time, so that one whose answer was lost is not waited for for ever. */
const LONG_POLL_MS = 10 * 60_000
/** How often the service is asked while a long poll is under way: one that hangs answers none, and says nothing. */
const PROBE_MS = 30_000
/** From the first `NotFound` to the second, which is believed. */
const CONFIRM_MS = 500
/** Between attempts. */
const FIRST_BACKOFF_MS = 100
const LONGEST_BACKOFF_MS = 4000

export interface TaskWaitOptions {
  readonly id: string
  /** Of a command in the container; `''` is its first process. */
  readonly execId: string
  /** For one call of State. */
  readonly timeoutMs: number
  /** A service that does not answer for so long is given up. */
  readonly unreachableMs: number
  readonly signal: AbortSignal
}

export interface TaskWaitDeps {
  readonly service: Pick<TaskService, 'wait' | 'state'>
  /** Whether it is seen otherwise that the process has ended, when the service cannot be asked, and why that is. */
  readonly isGone: (error: unknown) => Promise<boolean>
}

type Polled =
  | { readonly kind: 'ended'; readonly exit: ExitStatus }
  | { readonly kind: 'pending' }
  | { readonly kind: 'failed'; readonly error: unknown }
type Seen =
  | { readonly kind: 'running' | 'missing' }
  | { readonly kind: 'ended'; readonly exit: ExitStatus }
  | { readonly kind: 'unreachable'; readonly error: unknown }

/**
 * Waits for the end of one process of a Task service.
 *
 * A failed Wait says nothing of a process. For its end are taken only: Wait that answers, State that says STOPPED, a process
 * that the service does not know, twice, and what can be seen without the service. After anything else it asks again, with
 * a delay that grows and is never the same for two.
 */
export class TaskWait {
  readonly #options: TaskWaitOptions
  readonly #deps: TaskWaitDeps
  readonly #polling = new AbortController()
  #poll: Promise<Polled> | undefined
  #wakeUp: () => void = () => undefined

  constructor(options: TaskWaitOptions, deps: TaskWaitDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** Looks at once, for a process that may have ended. */
  wake(): void {
    this.#wakeUp()
  }

  /** @throws CodedError `Unavailable` when the service cannot be reached for long, or the reason of the signal. */
  async ended(): Promise<ExitStatus> {
    const { signal } = this.#options
    signal.throwIfAborted()
    const onAbort = (): void => {
      this.#polling.abort(signal.reason)
      this.#wakeUp()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await this.#watch()
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#polling.abort()
    }
  }

  async #watch(): Promise<ExitStatus> {
    let [missing, failures] = [0, 0]
    let unreachableSince: number | undefined
    for (;;) {
      // What is in doubt is looked at again after the pause, whatever the long poll does.
      const polled = await this.#pollFor(failures === 0 ? PROBE_MS : 0)
      if (polled.kind === 'ended') return polled.exit
      const seen = await this.#look()
      this.#throwIfAborted()
      if (seen.kind === 'ended') return seen.exit
      missing = seen.kind === 'missing' ? missing + 1 : 0
      if (missing > 1) return unknownExit()
      if (seen.kind === 'unreachable') {
        if (await this.#deps.isGone(seen.error)) return unknownExit()
        unreachableSince ??= performance.now()
        if (performance.now() - unreachableSince > this.#options.unreachableMs) throw this.#givenUp(seen.error)
      } else {
        unreachableSince = undefined
      }
      if (polled.kind === 'pending' && seen.kind === 'running') {
        failures = 0
        continue
      }
      failures = Math.min(failures + 1, 16)
      const last = await this.#pause(seen.kind === 'missing' ? CONFIRM_MS : backoff(failures))
      if (last?.kind === 'ended') return last.exit
    }
  }

  /** The result of the long poll that is under way, or of a new one, if there is one by then. */
  async #pollFor(ms: number): Promise<Polled> {
    this.#poll ??= this.#newPoll()
    return (await this.#pause(ms)) ?? { kind: 'pending' }
  }

  async #newPoll(): Promise<Polled> {
    const { id, execId: exec_id } = this.#options
    try {
      const call = { timeoutMs: LONG_POLL_MS, signal: this.#polling.signal }
      const end = await this.#deps.service.wait({ id, exec_id }, call)
      return { kind: 'ended', exit: observedExit(end.exit_status, end.exited_at) }
    } catch (error) {
      this.#poll = undefined
      return { kind: 'failed', error }
    }
  }

  async #look(): Promise<Seen> {
    const { id, execId: exec_id, timeoutMs } = this.#options
    try {
      const state = await this.#deps.service.state({ id, exec_id }, { timeoutMs, signal: this.#polling.signal })
      return state.status === 'STOPPED'
        ? { kind: 'ended', exit: observedExit(state.exit_status, state.exited_at) }
        : { kind: 'running' }
    } catch (error) {
      return errorCode(error) === 'NotFound' ? { kind: 'missing' } : { kind: 'unreachable', error }
    }
  }

  #givenUp(error: unknown): CodedError {
    const { id, unreachableMs } = this.#options
    const why = `wait for container ${id}: its service cannot be asked for ${unreachableMs} ms: ${errorMessage(error)}`
    return new CodedError('Unavailable', why, { cause: error })
  }

  #throwIfAborted(): void {
    if (this.#options.signal.aborted) throw abortReason(this.#options.signal)
  }

  /** Returns after the time, when told to wake up, or with the result of the poll when there is one. */
  async #pause(ms: number): Promise<Polled | undefined> {
    this.#throwIfAborted()
    const polled = await new Promise<Polled | undefined>((resolve) => {
      const end = (result?: Polled): void => {
        clearTimeout(timer)
        resolve(result)
      }
      const timer = setTimeout(end, ms * (0.75 + Math.random() / 2))
      this.#wakeUp = end
      void this.#poll?.then(end)
    })
    this.#throwIfAborted()
    return polled
  }
}

function backoff(failures: number): number {
  return Math.min(FIRST_BACKOFF_MS * 2 ** (failures - 1), LONGEST_BACKOFF_MS)
}
