/** The grace period of a stop that is asked for or under way: it can be shortened, never lengthened. */
export class StopGrace {
  /** Before it has begun: milliseconds. */
  #graceMs: number
  #endMs: number | undefined
  #timer: NodeJS.Timeout | undefined
  #onEnd: (() => void) | undefined

  constructor(graceMs: number) {
    this.#graceMs = graceMs
  }

  shorten(graceMs: number): void {
    this.#graceMs = Math.min(this.#graceMs, graceMs)
    if (this.#endMs === undefined) return
    this.#endMs = Math.min(this.#endMs, performance.now() + graceMs)
    if (this.#onEnd) this.#arm(this.#onEnd, this.#endMs)
  }

  /** Begins the period. Resolves true when `ended` does in time, false when the period is over; rejects as `ended` does. */
  async outlasts(ended: Promise<unknown>): Promise<boolean> {
    const endMs = performance.now() + this.#graceMs
    this.#endMs = endMs
    const over = new Promise<false>((resolve) => {
      this.#arm(() => resolve(false), endMs)
    })
    try {
      return await Promise.race([ended.then(() => true), over])
    } finally {
      clearTimeout(this.#timer)
      this.#onEnd = undefined
    }
  }

  #arm(onEnd: () => void, endMs: number): void {
    clearTimeout(this.#timer)
    this.#onEnd = onEnd
    // A timer cannot be set for longer than this; who waits so long waits a little less.
    this.#timer = setTimeout(onEnd, Math.min(Math.max(endMs - performance.now(), 0), 0x7fffffff))
  }
}
