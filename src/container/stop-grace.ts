/** The grace period of a stop that is under way: it can be shortened, never lengthened. */
export class StopGrace {
  #endMs: number
  #timer: NodeJS.Timeout | undefined
  #onEnd: (() => void) | undefined

  constructor(graceMs: number) {
    this.#endMs = performance.now() + graceMs
  }

  shorten(graceMs: number): void {
    const endMs = performance.now() + graceMs
    if (endMs >= this.#endMs) return
    this.#endMs = endMs
    if (this.#onEnd) this.#arm(this.#onEnd)
  }

  /** Resolves true when `ended` does in time, false when the period is over; rejects as `ended` does. */
  async outlasts(ended: Promise<unknown>): Promise<boolean> {
    const over = new Promise<false>((resolve) => this.#arm(() => resolve(false)))
    try {
      return await Promise.race([ended.then(() => true), over])
    } finally {
      clearTimeout(this.#timer)
      this.#onEnd = undefined
    }
  }

  #arm(onEnd: () => void): void {
    clearTimeout(this.#timer)
    this.#onEnd = onEnd
    // A timer cannot be set for longer than this; who waits so long waits a little less.
    this.#timer = setTimeout(onEnd, Math.min(Math.max(this.#endMs - performance.now(), 0), 0x7fffffff))
  }
}
