interface Waiter {
  readonly places: number
  readonly enter: () => void
}

/**
 * Lets at most `maxConcurrent` in, first come first served. `alone` waits until nobody is in and keeps others out; while
 * it waits, others may pass, so it never makes them slower (it may have to give up: that is the signal's business).
 */
class ChainLimiter {
  readonly #maxConcurrent: number
  #taken = 0
  #waiting: Waiter[] = []

  constructor(maxConcurrent: number) {
    this.#maxConcurrent = maxConcurrent
  }

  get isIdle(): boolean {
    return this.#taken === 0 && this.#waiting.length === 0
  }

  /** Resolves when inside; disposing leaves. Rejects with the signal's reason when that comes first. */
  async enter(how: 'shared' | 'alone', signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted()
    const places = how === 'alone' ? this.#maxConcurrent : 1
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter)
        reject(signal.reason as Error)
      }
      const enter = (): void => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const waiter: Waiter = { places, enter }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(waiter)
      this.#admit()
    })
    return { [Symbol.dispose]: () => this.#leave(places) }
  }

  #leave(places: number): void {
    this.#taken -= places
    this.#admit()
  }

  #admit(): void {
    const fits = (waiter: Waiter): boolean => waiter.places <= this.#maxConcurrent - this.#taken
    for (let next = this.#waiting.find(fits); next; next = this.#waiting.find(fits)) {
      const admitted = next
      this.#waiting = this.#waiting.filter((waiter) => waiter !== admitted)
      this.#taken += admitted.places
      admitted.enter()
    }
  }
}

/** A {@link ChainLimiter} for each network: plugins that hang hold up the pods of their own network only. */
export class NetworkLines {
  readonly #maxConcurrent: number
  readonly #limiters = new Map<string, ChainLimiter>()

  constructor(options: { readonly maxConcurrent: number }) {
    this.#maxConcurrent = options.maxConcurrent
  }

  /** Resolves when it is the caller's turn; disposing ends it. Rejects with the signal's reason when that comes first. */
  async enter(network: string, how: 'shared' | 'alone', signal: AbortSignal): Promise<Disposable> {
    const limiter = this.#limiters.get(network) ?? new ChainLimiter(this.#maxConcurrent)
    this.#limiters.set(network, limiter)
    const forgetIfIdle = (): void => {
      if (limiter.isIdle) this.#limiters.delete(network)
    }
    try {
      const place = await limiter.enter(how, signal)
      return {
        [Symbol.dispose]() {
          place[Symbol.dispose]()
          forgetIfIdle()
        },
      }
    } catch (error) {
      forgetIfIdle()
      throw error
    }
  }
}
