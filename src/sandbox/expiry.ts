/** Times that are set for sandboxes, and are over unless they are cleared before. */
export class Expiry implements Disposable {
  /** Null for a time that is over. */
  readonly #timers = new Map<string, NodeJS.Timeout | null>()
  readonly #ttlMs: number
  readonly #onOver: (id: string) => void

  constructor(options: { readonly ttlMs: number }, deps: { readonly onOver: (id: string) => void }) {
    this.#ttlMs = options.ttlMs
    this.#onOver = deps.onOver
  }

  /** Begins the time of a sandbox, or begins it anew. */
  set(id: string): void {
    this.clear(id)
    const timer = setTimeout(() => {
      this.#timers.set(id, null)
      this.#onOver(id)
    }, this.#ttlMs)
    this.#timers.set(id, timer.unref())
  }

  /** Whether the time of a sandbox is over, and was neither begun anew nor cleared since. */
  isOver(id: string): boolean {
    return this.#timers.get(id) === null
  }

  clear(id: string): void {
    clearTimeout(this.#timers.get(id) ?? undefined)
    this.#timers.delete(id)
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers.values()) clearTimeout(timer ?? undefined)
    this.#timers.clear()
  }
}
