import type { Logger } from '../../telemetry/logger.ts'

/** How often it is looked whether the event loop turns, and how late it may be. */
const LOOK_MS = 500
const LATE_MS = 1000
/** Signs of life are not further apart, however patient the service manager is: a timer has a limit. */
const MAX_PING_MS = 60_000

export interface LoopWatchOptions {
  /** How long the service manager waits for a sign of life; undefined where it waits for none. */
  readonly watchdogMs: number | undefined
}

export interface LoopWatchDeps {
  /** Gives the service manager a sign of life. */
  readonly ping: () => void
  readonly logger: Logger
  /** A clock that never goes back. */
  readonly nowMs?: () => number
}

/**
 * Gives a sign of life as long as the event loop turns, and tells when it did not for a while. Nothing else counts: a
 * daemon that is started again has no better network, no other disk and no more runtimes than before.
 */
export class LoopWatch implements Disposable {
  readonly #timers: readonly NodeJS.Timeout[]

  constructor({ watchdogMs }: LoopWatchOptions, { ping, logger, nowMs = () => performance.now() }: LoopWatchDeps) {
    let due = nowMs() + LOOK_MS
    const look = (): void => {
      const delayMs = Math.round(nowMs() - due)
      due = nowMs() + LOOK_MS
      if (delayMs > LATE_MS) logger.warn({ delayMs }, 'the event loop was blocked')
    }
    const pings = watchdogMs === undefined ? [] : [setInterval(ping, Math.min(watchdogMs / 2, MAX_PING_MS))]
    this.#timers = [setInterval(look, LOOK_MS), ...pings]
    for (const timer of this.#timers) timer.unref()
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer)
  }
}
