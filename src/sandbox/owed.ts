const FIRST_MS = 1000
const LONGEST_MS = 5 * 60_000

interface Debt {
  readonly timer: NodeJS.Timeout
  readonly attempt: number
}

/** Tries again what could not be released: after a second, then ever more rarely, for ever. */
export class OwedReleases implements Disposable {
  readonly #debts = new Map<string, Debt>()
  readonly #retry: (sandboxId: string) => Promise<boolean>

  /** @param retry returns whether nothing is owed any more; it throws nothing. */
  constructor(retry: (sandboxId: string) => Promise<boolean>) {
    this.#retry = retry
  }

  /** How many sandboxes owe something. */
  get size(): number {
    return this.#debts.size
  }

  /** Notes that a sandbox owes something. */
  add(sandboxId: string): void {
    if (!this.#debts.has(sandboxId)) this.#schedule(sandboxId, 0)
  }

  settle(sandboxId: string): void {
    clearTimeout(this.#debts.get(sandboxId)?.timer)
    this.#debts.delete(sandboxId)
  }

  [Symbol.dispose](): void {
    for (const { timer } of this.#debts.values()) clearTimeout(timer)
    this.#debts.clear()
  }

  #schedule(sandboxId: string, attempt: number): void {
    // Many sandboxes that fail together shall not come back together.
    const delayMs = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS) * (0.75 + Math.random() / 2)
    const timer = setTimeout(() => void this.#tryAgain(sandboxId, attempt), delayMs)
    timer.unref()
    this.#debts.set(sandboxId, { timer, attempt })
  }

  async #tryAgain(sandboxId: string, attempt: number): Promise<void> {
    const settled = await this.#retry(sandboxId)
    if (!this.#debts.has(sandboxId)) return
    if (settled) this.settle(sandboxId)
    else this.#schedule(sandboxId, attempt + 1)
  }
}
