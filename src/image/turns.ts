import { waitFor } from '../core/deadline.ts'

/** So many at a time, in the order in which they come. */
export class Slots {
  #free: number
  readonly #queue: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** @throws the reason of the signal when it aborts first. */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted()
    if (this.#free > 0) this.#free--
    else await this.#wait(signal)
    return { [Symbol.dispose]: () => this.#giveBack() }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    let turn = (): void => {}
    const mine = new Promise<void>((resolve) => {
      turn = resolve
    })
    this.#queue.push(turn)
    try {
      await waitFor(mine, signal)
    } catch (error) {
      const at = this.#queue.indexOf(turn)
      if (at === -1) this.#giveBack()
      else this.#queue.splice(at, 1)
      throw error
    }
  }

  #giveBack(): void {
    const next = this.#queue.shift()
    if (next) next()
    else this.#free++
  }
}

/** Either any number inside, or one alone. */
export class Gate {
  #inside = 0
  #alone: Promise<unknown> | undefined

  get isIdle(): boolean {
    return this.#inside === 0 && this.#alone === undefined
  }

  /** Waits until nobody is alone. */
  async enter(signal: AbortSignal): Promise<Disposable> {
    while (this.#alone) await waitFor(this.#alone, signal)
    this.#inside++
    return {
      [Symbol.dispose]: () => {
        this.#inside--
      },
    }
  }

  /** Does the work while nobody is inside. It must be idle. */
  async alone(work: () => Promise<void>): Promise<void> {
    const done = work()
    this.#alone = done.catch(() => undefined)
    try {
      await done
    } finally {
      this.#alone = undefined
    }
  }
}

/** Works one after the other. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve()

  async run<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work)
    this.#last = mine.catch(() => undefined)
    return mine
  }

  /** Resolves when all have ended that are there now. */
  async ended(): Promise<void> {
    await this.#last
  }
}

/** A {@link Queue} for each key. */
export class Queues {
  readonly #byKey = new Map<string, { readonly queue: Queue; waiting: number }>()

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const entry = this.#byKey.get(key) ?? { queue: new Queue(), waiting: 0 }
    this.#byKey.set(key, entry)
    entry.waiting++
    try {
      return await entry.queue.run(work)
    } finally {
      entry.waiting--
      if (entry.waiting === 0) this.#byKey.delete(key)
    }
  }
}
