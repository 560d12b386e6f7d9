const FIRST_MS = 1000
const LONGEST_MS = 5 * 60_000

interface Debt {
  readonly timer: NodeJS.Timeout
  readonly attempt: number
}

/** Tries again what could not be released: after a second, then ever more rarely, for ever. */
export class OwedReleases implements Disposable {
  readonly #debts = new Map<string, Debt>()
  readonly #retry: (id: string) => Promise<boolean>

  /** @param retry returns whether nothing is owed any more; it throws nothing. */
  constructor(retry: (id: string) => Promise<boolean>) {
    this.#retry = retry
  }

  /** How many owe something. */
  get size(): number {
    return this.#debts.size
  }

  /** Notes that a sandbox or container owes something. */
  add(id: string): void {
    if (!this.#debts.has(id)) this.#schedule(id, 0)
  }

  /** Tries again now, when something is owed. Throws nothing. */
  async retryNow(id: string): Promise<void> {
    const debt = this.#debts.get(id)
    if (debt) await this.#tryAgain(id, debt.attempt)
  }

  settle(id: string): void {
    clearTimeout(this.#debts.get(id)?.timer)
    this.#debts.delete(id)
  }

  [Symbol.dispose](): void {
    for (const { timer } of this.#debts.values()) clearTimeout(timer)
    this.#debts.clear()
  }

  #schedule(id: string, attempt: number): void {
    // Many that fail together shall not come back together.
    const delayMs = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS) * (0.75 + Math.random() / 2)
    const timer = setTimeout(() => void this.#tryAgain(id, attempt), delayMs)
    timer.unref()
    clearTimeout(this.#debts.get(id)?.timer)
    this.#debts.set(id, { timer, attempt })
  }

  async #tryAgain(id: string, attempt: number): Promise<void> {
    const settled = await this.#retry(id)
    if (!this.#debts.has(id)) return
    if (settled) this.settle(id)
    else this.#schedule(id, attempt + 1)
  }
}
