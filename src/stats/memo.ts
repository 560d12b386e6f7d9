interface Made<T> {
  readonly parts: readonly unknown[]
  readonly value: T
}

/** What was made of parts, for as long as the parts are the same objects: nothing is made anew for each caller. */
export class Memo<T> {
  readonly #made = new Map<string, Made<T>>()

  get size(): number {
    return this.#made.size
  }

  of(key: string, parts: readonly unknown[], make: () => T): T {
    const known = this.#made.get(key)
    if (known && isSame(known.parts, parts)) return known.value
    const value = make()
    this.#made.set(key, { parts, value })
    return value
  }

  /** Forgets all but these. */
  retain(keys: ReadonlySet<string>): void {
    for (const key of this.#made.keys()) if (!keys.has(key)) this.#made.delete(key)
  }
}

function isSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((part, index) => part === b[index])
}
