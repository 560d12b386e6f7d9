import { errorCode } from '../core/errors.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ControllerStatusResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { SandboxerClient } from './sandboxer-client.ts'
import { fromTimestamp, observedExit, unknownExit } from './sandboxer-messages.ts'

/** A long poll is made anew after this time, so that one whose answer was lost is not waited for for ever. */
const LONG_POLL_MS = 10 * 60_000
/** How often the peer is asked while a long poll is under way: one that hangs answers none, and says nothing. */
const PROBE_MS = 30_000
/** From the first `NotFound` to the second, which is believed. A peer that starts may not know its sandboxes yet. */
const CONFIRM_MS = 1500
/** For the exit status of a sandbox that is known to have ended. */
const EXIT_MS = 2000
/** Between attempts, as containerd's. */
const FIRST_BACKOFF_MS = 128
const LONGEST_BACKOFF_MS = 4096

export interface SandboxerWaitOptions {
  readonly id: string
  /** For one call of Status. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Told when the peer answers and when it does not: at the first look, and at each change. */
  readonly onReachable: (reachable: boolean) => void
  /** Told what the peer says of a sandbox that runs. */
  readonly onStatus: (status: ControllerStatusResponse__Output) => void
}

type Seen =
  | { readonly kind: 'running' }
  | { readonly kind: 'ended'; readonly atNs: bigint | undefined }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreachable' }

/**
 * Watches one remote sandbox until it has ended.
 *
 * A failed Wait says nothing of a sandbox. Only three things are taken for an end: Wait that answers, Status that says
 * SANDBOX_NOTREADY, and a sandbox that the peer does not know, twice. After anything else it asks again, for ever,
 * with a delay that grows and is never the same for two sandboxes.
 */
export class SandboxerWait {
  readonly #options: SandboxerWaitOptions
  readonly #client: SandboxerClient
  readonly #polling = new AbortController()
  #poll: Promise<ExitStatus | undefined> | undefined
  #reachable: boolean | undefined
  #abandoned = false
  #wakeUp: () => void = () => undefined

  constructor(options: SandboxerWaitOptions, deps: { readonly client: SandboxerClient }) {
    this.#options = options
    this.#client = deps.client
  }

  /** Looks at once, for a sandbox that may have changed. */
  wake(): void {
    this.#wakeUp()
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
    let missing = 0
    let failures = 0
    while (!this.#abandoned) {
      const seen = await this.#look()
      missing = seen.kind === 'missing' ? missing + 1 : 0
      if (seen.kind === 'ended') return this.#exitOf(seen.atNs)
      if (missing > 1) return unknownExit()
      if (seen.kind === 'running') {
        const polled = await this.#pollFor(PROBE_MS)
        if (polled.exit) return polled.exit
        if (!polled.failed) {
          failures = 0
          continue
        }
      }
      failures = Math.min(failures + 1, 16)
      const delayMs = seen.kind === 'missing' ? CONFIRM_MS : backoff(failures)
      // An answer of a long poll counts, also while Status has none.
      const exit = await this.#pause(delayMs, this.#poll)
      if (exit) return exit
    }
    return unknownExit()
  }

  async #look(): Promise<Seen> {
    const { id, timeoutMs, onStatus } = this.#options
    try {
      const status = await this.#client.status(id, false, { timeoutMs, signal: this.#polling.signal })
      if (status.state === 'SANDBOX_NOTREADY') return { kind: 'ended', atNs: fromTimestamp(status.exited_at) }
      if (status.state === 'SANDBOX_READY') {
        onStatus(status)
        this.#report(true)
        return { kind: 'running' }
      }
    } catch (error) {
      if (errorCode(error) === 'NotFound') return { kind: 'missing' }
    }
    this.#report(false)
    return { kind: 'unreachable' }
  }

  #report(reachable: boolean): void {
    if (this.#abandoned || this.#reachable === reachable) return
    this.#reachable = reachable
    this.#options.onReachable(reachable)
  }

  /** Waits for the long poll, which goes on when the time is over. */
  async #pollFor(ms: number): Promise<{ readonly exit?: ExitStatus; readonly failed: boolean }> {
    const exit = await this.#pause(ms, this.#openPoll(), true)
    return exit ? { exit, failed: false } : { failed: this.#poll === undefined }
  }

  /** The long poll that is under way, or a new one. */
  #openPoll(): Promise<ExitStatus | undefined> {
    if (this.#poll) return this.#poll
    const poll = this.#requestExit()
    this.#poll = poll
    void poll.then((exit) => {
      if (!exit) this.#poll = undefined
    })
    return poll
  }

  async #requestExit(): Promise<ExitStatus | undefined> {
    try {
      const call = { timeoutMs: LONG_POLL_MS, signal: this.#polling.signal }
      const { exit_status: code, exited_at: at } = await this.#client.wait(this.#options.id, call)
      return observedExit(code, at)
    } catch {
      // Whatever it was, Status is asked what it means.
      return undefined
    }
  }

  async #exitOf(atNs: bigint | undefined): Promise<ExitStatus> {
    return (await this.#pause(EXIT_MS, this.#openPoll(), true)) ?? unknownExit(atNs)
  }

  /**
   * Returns after the time, when told to wake up, or with the exit when the poll has one.
   * @param endsWithPoll whether a poll that fails ends the pause, too.
   */
  async #pause(
    ms: number,
    poll: Promise<ExitStatus | undefined> | undefined,
    endsWithPoll = false,
  ): Promise<ExitStatus | undefined> {
    if (this.#abandoned) return undefined
    return new Promise((resolve) => {
      const end = (exit?: ExitStatus): void => {
        clearTimeout(timer)
        resolve(exit)
      }
      const timer = setTimeout(end, ms * (0.75 + Math.random() / 2))
      this.#wakeUp = end
      void poll?.then((exit) => {
        if (exit || endsWithPoll) end(exit)
      })
    })
  }
}

function backoff(failures: number): number {
  return Math.min(FIRST_BACKOFF_MS * 2 ** (failures - 1), LONGEST_BACKOFF_MS)
}
