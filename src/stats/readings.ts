import { waitFor } from '../core/deadline.ts'
import type { ReadAnswer } from './reader.ts'
import { type Baseline, cpuRate } from './cpu-rate.ts'

/** What was read of one container or pod, the last time. */
export interface Entry<A extends ReadAnswer = ReadAnswer> {
  /** On the clock of `performance.now()`: when the collection began that read it. */
  readonly atMs: number
  readonly answer: A
  readonly usageNanoCores: number | null
  readonly baseline: Baseline | null
}

export interface ReadingsOptions {
  /** Nothing is read again before it is this old. */
  readonly minIntervalMs: number
}

export interface ReadingsDeps<T, A> {
  /** Reads anew. */
  readonly collect: (targets: readonly T[]) => Promise<ReadonlyMap<T, A>>
}

/** A collection may take this part of the time: the longer one takes, the longer nothing is read again. */
const DUTY = 1 / 4

/**
 * What was last read of each target, and the only way to read anew: one collection at a time, in which all who ask
 * meanwhile have their part.
 */
export class Readings<T extends { readonly id: string }, A extends ReadAnswer = ReadAnswer> {
  readonly #options: ReadingsOptions
  readonly #deps: ReadingsDeps<T, A>
  readonly #entries = new Map<string, Entry<A>>()
  #collection: Promise<void> | undefined
  /** How long it took to read all there is. */
  #durationMs = 0

  constructor(options: ReadingsOptions, deps: ReadingsDeps<T, A>) {
    this.#options = options
    this.#deps = deps
  }

  get size(): number {
    return this.#entries.size
  }

  get(id: string): Entry<A> | undefined {
    return this.#entries.get(id)
  }

  /** Forgets all but these. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#entries.keys()) if (!ids.has(id)) this.#entries.delete(id)
  }

  /**
   * Sees to it that there are readings of these targets that were fresh enough when this was called.
   * @throws what a failed collection throws: no answer is better than an old one.
   */
  async refresh(targets: readonly T[], signal: AbortSignal): Promise<void> {
    const notBefore = performance.now() - Math.max(this.#options.minIntervalMs, this.#durationMs / DUTY)
    for (;;) {
      const stale = targets.filter(({ id }) => (this.#entries.get(id)?.atMs ?? Number.NEGATIVE_INFINITY) < notBefore)
      if (stale.length === 0) return
      this.#collection ??= this.#collect(stale).finally(() => {
        this.#collection = undefined
      })
      // The collection goes on for the others when this caller goes away.
      await waitFor(this.#collection, signal)
    }
  }

  async #collect(targets: readonly T[]): Promise<void> {
    const atMs = performance.now()
    const answers = await this.#deps.collect(targets)
    for (const [{ id }, answer] of answers) {
      const { cpu = null } = answer.cgroup ?? {}
      const rate = cpu === null ? null : cpuRate(this.#entries.get(id)?.baseline ?? null, cpu)
      this.#entries.set(id, {
        atMs,
        answer,
        usageNanoCores: rate?.usageNanoCores ?? null,
        baseline: rate?.baseline ?? null,
      })
    }
    if (targets.length * 2 >= this.#entries.size) this.#durationMs = performance.now() - atMs
  }
}
