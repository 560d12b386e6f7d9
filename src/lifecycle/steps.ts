import type { Failpoints } from '../core/failpoints.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'

/** How long one step of an operation took, and when it began after the first. Milliseconds. */
export interface StepTiming {
  readonly name: string
  readonly startMs: number
  readonly durationMs: number
}

/** Runs the named steps of one operation: takes their times, and lets tests stop between any two of them. */
export class Steps {
  readonly #operation: string
  readonly #failpoints: Failpoints
  readonly #observer: Observer
  #owner: { readonly id?: string } = {}
  readonly #begin = performance.now()
  readonly #timings: StepTiming[] = []

  constructor(operation: string, failpoints: Failpoints, observer: Observer = UNOBSERVED) {
    this.#operation = operation
    this.#failpoints = failpoints
    this.#observer = observer
  }

  /** Says whose steps they are, once that is known. */
  of(id: string): void {
    this.#owner = { id }
  }

  /** The steps that have ended, in the order in which they began. */
  get timings(): readonly StepTiming[] {
    return this.#timings.toSorted((a, b) => a.startMs - b.startMs)
  }

  /** Takes the time of a step that does nothing outside the process. */
  plan<T>(name: string, work: () => T): T {
    const start = performance.now()
    try {
      return work()
    } finally {
      this.#record(name, start)
    }
  }

  async run<T>(name: string, signal: AbortSignal, work: () => T | Promise<T>): Promise<T> {
    signal.throwIfAborted()
    const activity = { kind: 'step', name, operation: this.#operation, ...this.#owner } as const
    return this.#observer.run(activity, () => this.#run(name, signal, work))
  }

  async #run<T>(name: string, signal: AbortSignal, work: () => T | Promise<T>): Promise<T> {
    await this.#failpoints.hit(`${this.#operation}.${name}.before`, signal)
    const start = performance.now()
    try {
      const result = await work()
      await this.#failpoints.hit(`${this.#operation}.${name}.after`, signal)
      return result
    } finally {
      this.#record(name, start)
    }
  }

  #record(name: string, start: number): void {
    const durationMs = round(performance.now() - start)
    this.#timings.push({ name, startMs: round(start - this.#begin), durationMs })
  }
}

/** To microseconds. */
function round(ms: number): number {
  return Math.round(ms * 1000) / 1000
}
