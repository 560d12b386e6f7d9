import type { SandboxerClient } from '../client/sandboxer-client.ts'
import { fromTimestamp } from '../client/timestamp.ts'
import { errorCode, errorMessage } from '../core/errors.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ControllerStatusResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import { observedExit } from '../client/exit.ts'
import { unknownExit } from '../core/unknown-exit.ts'

export interface WaitTiming {
  /** A long poll is made anew after this time, so that one whose answer was lost is not waited for for ever. */
  readonly longPollMs: number
  /** How often the peer is asked while a long poll is under way: one that hangs answers none, and says nothing. */
  readonly probeMs: number
  /** From the first `NotFound` to the second, which is believed. A peer that starts may not know its sandboxes yet. */
  readonly confirmMs: number
  /** For the exit status of a sandbox that is known to have ended. */
  readonly exitMs: number
  /** Between attempts; it doubles from one to the next. */
  readonly firstBackoffMs: number
  readonly longestBackoffMs: number
}

/** The back-off is containerd's. */
export const WAIT_TIMING: WaitTiming = {
  longPollMs: 10 * 60_000,
  probeMs: 30_000,
  confirmMs: 1500,
  exitMs: 2000,
  firstBackoffMs: 128,
  longestBackoffMs: 4096,
}

/**
 * Told when the peer answers, and when it has not done so for the time of grace, and why: first, and at each change.
 */
export type OnReachable = (reachable: boolean, problem: string) => void

export interface SandboxerWaitOptions {
  readonly id: string
  /** For one call of Status. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly onReachable: OnReachable
  /** Told when the peer does not answer, at once, and not again before it has answered. */
  readonly onLost: () => void
  /** For how long a peer may be away, as one that is restarted, before that is told. */
  readonly graceMs: number
  /** Told what the peer says of a sandbox that runs. */
  readonly onStatus: (status: ControllerStatusResponse__Output) => void
  readonly timing: WaitTiming
}

/** Why what is known of a sandbox is old, and since when. */
export interface Stale {
  /** Of `performance.now()`. */
  readonly sinceMs: number
  readonly problem: string
}

type Seen =
  | { readonly kind: 'running' }
  | { readonly kind: 'ended'; readonly atNs: bigint | undefined }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreachable' }

/**
 * Watches one remote sandbox until it has ended.
 *
 * A failed Wait says nothing of a sandbox, and one that answers is believed only when Status does not say that it runs: a
 * peer that is ended may let go of its long polls. So two things are taken for an end: Status that says SANDBOX_NOTREADY,
 * and a sandbox that the peer does not know, twice. After anything else it asks again, for ever, with a delay that grows
 * and is never the same for two sandboxes.
 */
export class SandboxerWait {
  readonly #options: SandboxerWaitOptions
  readonly #client: SandboxerClient
  readonly #polling = new AbortController()
  #poll: Promise<ExitStatus | undefined> | undefined
  /** What Wait has answered, and Status has not contradicted yet. */
  #told: ExitStatus | undefined
  /** The same, of a peer that could not be asked since: its next word counts for more, if there is one. */
  #toldBefore: ExitStatus | undefined
  #reachable: boolean | undefined
  #unseen: Stale | null = null
  #abandoned = false
  /** Whether the peer has just said that there is no sandbox that runs. */
  #isEnding = false
  #wakeUp: () => void = () => undefined

  constructor(options: SandboxerWaitOptions, deps: { readonly client: SandboxerClient }) {
    this.#options = options
    this.#client = deps.client
  }

  /** Null while the peer answers. */
  get stale(): Stale | null {
    return this.#unseen
  }

  /**
   * Looks at once, for a sandbox that may have changed. A peer that does not know it, or has not told yet how it ended, is
   * given its time.
   */
  wake(): void {
    if (!this.#isEnding) this.#wakeUp()
  }

  /** Ends the wait for a sandbox that is no more. */
  abandon(): void {
    this.#abandoned = true
    this.#polling.abort()
    this.#wakeUp()
  }

  /** Rejects only with the reason of the signal. */
  async ended(): Promise<ExitStatus> {
    const { signal } = this.#options
    signal.throwIfAborted()
    const onAbort = (): void => this.abandon()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const exit = await this.#watch()
      signal.throwIfAborted()
      return exit
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#polling.abort()
    }
  }

  async #watch(): Promise<ExitStatus> {
    const { probeMs, confirmMs } = this.#options.timing
    let missing = 0
    let failures = 0
    while (!this.#abandoned) {
      const seen = await this.#look()
      this.#isEnding = seen.kind === 'missing' || seen.kind === 'ended'
      missing = seen.kind === 'missing' ? missing + 1 : 0
      if (seen.kind === 'ended') return this.#exitOf(seen.atNs)
      if (missing > 1 || (missing === 1 && this.#told)) return this.#told ?? this.#toldBefore ?? unknownExit()
      if (seen.kind === 'running' && !this.#told) {
        await this.#pause(probeMs, this.#openPoll(), true)
        // Whatever the poll has said, Status is asked what it means: at once where it said that there is an end.
        if (this.#told) continue
        if (this.#poll) {
          failures = 0
          continue
        }
      }
      if (seen.kind !== 'missing') {
        this.#toldBefore = seen.kind === 'unreachable' ? (this.#told ?? this.#toldBefore) : undefined
        this.#told = undefined
      }
      failures = Math.min(failures + 1, 16)
      await this.#pause(seen.kind === 'missing' ? confirmMs : this.#backoff(failures), this.#poll)
    }
    return this.#told ?? this.#toldBefore ?? unknownExit()
  }

  async #look(): Promise<Seen> {
    const { id, timeoutMs, onStatus } = this.#options
    const sinceMs = performance.now()
    let problem: string
    try {
      const status = await this.#client.status(id, false, { timeoutMs, signal: this.#polling.signal })
      if (status.state === 'SANDBOX_NOTREADY') return { kind: 'ended', atNs: fromTimestamp(status.exited_at) }
      if (status.state === 'SANDBOX_READY') {
        onStatus(status)
        this.#unseen = null
        this.#report(true, '')
        return { kind: 'running' }
      }
      problem = `its state is ${JSON.stringify(status.state)}`
    } catch (error) {
      if (errorCode(error) === 'NotFound') return { kind: 'missing' }
      problem = errorMessage(error)
    }
    this.#notSeen(problem, sinceMs)
    return { kind: 'unreachable' }
  }

  /** One look that fails says little, and so does a short time without an answer. */
  #notSeen(problem: string, lookedAtMs: number): void {
    if (this.#abandoned) return
    const before = this.#unseen
    const sinceMs = before?.sinceMs ?? lookedAtMs
    this.#unseen = { sinceMs, problem }
    if (!before) this.#options.onLost()
    else if (performance.now() - sinceMs >= this.#options.graceMs) this.#report(false, problem)
  }

  #report(reachable: boolean, problem: string): void {
    if (this.#abandoned || this.#reachable === reachable) return
    this.#reachable = reachable
    this.#options.onReachable(reachable, problem)
  }

  /** The long poll that is under way, or a new one. */
  #openPoll(): Promise<ExitStatus | undefined> {
    this.#poll ??= this.#requestExit().finally(() => {
      this.#poll = undefined
    })
    return this.#poll
  }

  async #requestExit(): Promise<ExitStatus | undefined> {
    try {
      const call = { timeoutMs: this.#options.timing.longPollMs, signal: this.#polling.signal }
      const { exit_status: code, exited_at: at } = await this.#client.wait(this.#options.id, call)
      this.#told = observedExit(code, at)
    } catch {
      // Whatever it was, Status is asked what it means.
    }
    return this.#told
  }

  async #exitOf(atNs: bigint | undefined): Promise<ExitStatus> {
    if (!this.#told) await this.#pause(this.#options.timing.exitMs, this.#openPoll(), true)
    return this.#told ?? this.#toldBefore ?? unknownExit(atNs)
  }

  /**
   * Returns after the time, when told to wake up, or when the poll has told of an end.
   * @param endsWithPoll whether a poll that fails ends the pause, too.
   */
  async #pause(ms: number, poll: Promise<ExitStatus | undefined> | undefined, endsWithPoll = false): Promise<void> {
    if (this.#abandoned) return
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(end, ms * (0.75 + Math.random() / 2))
      this.#wakeUp = end
      void poll?.then((exit) => {
        if (exit || endsWithPoll) end()
      })
    })
  }

  #backoff(failures: number): number {
    const { firstBackoffMs, longestBackoffMs } = this.#options.timing
    return Math.min(firstBackoffMs * 2 ** (failures - 1), longestBackoffMs)
  }
}
