/** What has to be closed, in the reverse of the order in which it was opened. */
export class CleanupStack implements AsyncDisposable {
  readonly #items: (Disposable | AsyncDisposable)[] = []

  /** Takes over a thing, and returns it. */
  use<T extends Disposable | AsyncDisposable>(item: T): T {
    this.#items.push(item)
    return item
  }

  /** Closes all, each tried. @throws AggregateError of what failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = []
    for (let item = this.#items.pop(); item; item = this.#items.pop()) {
      try {
        if (Symbol.asyncDispose in item) await item[Symbol.asyncDispose]()
        else item[Symbol.dispose]()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'close')
  }
}
