/** What a call or a step took, over all pods, in milliseconds. */
export interface Summary {
  readonly name: string
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

/** Durations by what took them, in the order in which each was seen first. */
export class Samples {
  readonly #byName = new Map<string, number[]>()

  add(name: string, durationMs: number): void {
    const durations = this.#byName.get(name)
    if (durations) durations.push(durationMs)
    else this.#byName.set(name, [durationMs])
  }

  summaries(): Summary[] {
    return [...this.#byName].map(([name, durations]) => {
      const sorted = durations.toSorted((a, b) => a - b)
      const at = (share: number): number => rounded(sorted[Math.ceil(share * sorted.length) - 1] ?? 0)
      return { name, count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
    })
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100
}
