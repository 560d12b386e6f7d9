import type { Logger } from 'pino'
import { sleep } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { Container } from './container.ts'
import type { Verdict } from './recovery.ts'

/** Between two questions about the same container: the first, and the longest. */
const FIRST_MS = 1000
const LONGEST_MS = 30_000

export interface RecoveriesDeps {
  /** The Task service that runs a container; `''` is this node. */
  readonly laneOf: (container: Container) => string
  /** Finds out how a container is, and does what that calls for. Never throws. */
  readonly recover: (container: Container) => Promise<Verdict>
  readonly logger: Logger
}

/** The recovery of many containers: one that cannot be found out about delays no other. */
export class Recoveries {
  readonly #concurrency: number
  readonly #signal: AbortSignal
  readonly #deps: RecoveriesDeps

  /** @param options.signal aborts when the daemon stops. */
  constructor(options: { readonly concurrency: number; readonly signal: AbortSignal }, deps: RecoveriesDeps) {
    this.#concurrency = options.concurrency
    this.#signal = options.signal
    this.#deps = deps
  }

  /**
   * Recovers several at a time. Each Task service has a lane of its own; those of one that does not answer are asked for
   * again later, behind this.
   */
  async recover(containers: readonly Container[]): Promise<void> {
    const lanes = new Map<string, Container[]>()
    for (const container of containers) {
      const lane = this.#deps.laneOf(container)
      const waiting = lanes.get(lane)
      if (waiting) waiting.push(container)
      else lanes.set(lane, [container])
    }
    const workers = [...lanes].flatMap(([lane, waiting]) => {
      const count = lane === '' ? this.#concurrency : 1
      return Array.from({ length: count }, () => this.#recoverLane(waiting))
    })
    await Promise.all(workers)
  }

  /** Asks again, ever more rarely, until it is known how the container is. */
  later(container: Container): void {
    this.#askAgain(container).catch((error: unknown) => {
      if (this.#signal.aborted) return
      this.#deps.logger.error({ containerId: container.id, error: errorMessage(error) }, 'container is not recovered')
    })
  }

  async #recoverLane(waiting: Container[]): Promise<void> {
    let isSilent = false
    for (let next = waiting.pop(); next && !this.#signal.aborted; next = waiting.pop()) {
      // Who has not answered for one is not asked for all the others, each with a deadline of its own.
      isSilent ||= (await this.#deps.recover(next)) === 'later'
      if (isSilent) this.later(next)
    }
  }

  async #askAgain(container: Container): Promise<void> {
    for (let attempt = 0; !this.#signal.aborted; attempt++) {
      const delayMs = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS)
      // Those of one Task service shall not come all at once.
      await sleep(delayMs * (0.75 + Math.random() / 2), this.#signal)
      if ((await this.#deps.recover(container)) !== 'later') return
    }
  }
}
