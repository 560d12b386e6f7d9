import type { Failpoints } from '../core/failpoints.ts'

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
  readonly #begin = performance.now()
  readonly #timings: StepTiming[] = []
  readonly #running = new Set<string>()

  constructor(operation: string, failpoints: Failpoints) {
    this.#operation = operation
    this.#failpoints = failpoints
  }

  /** The steps that have ended, in the order in which they began. */
  get timings(): readonly StepTiming[] {
    return this.#timings.toSorted((a, b) => a.startMs - b.startMs)
  }

  /** The steps that are under way: what an operation that takes long is waiting for. */
  get running(): readonly string[] {
    return [...this.#running]
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
    await this.#failpoints.hit(`${this.#operation}.${name}.before`, signal)
    const start = performance.now()
    this.#running.add(name)
    try {
      const result = await work()
      await this.#failpoints.hit(`${this.#operation}.${name}.after`, signal)
      return result
    } finally {
      this.#running.delete(name)
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
