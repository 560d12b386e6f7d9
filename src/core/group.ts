/** Works that go on at the same time: the first that fails aborts the others, and all have ended before it is told. */
export class Group implements Disposable {
  readonly #controller = new AbortController()
  readonly #works: Promise<unknown>[] = []
  readonly #parent: AbortSignal
  readonly #onAbort = (): void => this.#controller.abort(this.#parent.reason)

  constructor(parent: AbortSignal) {
    this.#parent = parent
    if (parent.aborted) this.#onAbort()
    else parent.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  add<T>(work: Promise<T>): Promise<T> {
    const watched = work.catch((error: unknown) => {
      this.#controller.abort(error)
      throw error
    })
    this.#works.push(watched)
    return watched
  }

  async settled<T>(all: Promise<T>): Promise<T> {
    try {
      return await all
    } catch (error) {
      // Works that were already queued behind others may have joined since.
      for (let count = -1; count !== this.#works.length; ) {
        count = this.#works.length
        await Promise.allSettled(this.#works)
      }
      throw this.#controller.signal.aborted ? this.#controller.signal.reason : error
    }
  }

  [Symbol.dispose](): void {
    this.#parent.removeEventListener('abort', this.#onAbort)
  }
}

/** Runs works in a {@link Group} to the end of all of them. @throws what the first that failed threw. */
export async function together<T>(parent: AbortSignal, work: (group: Group) => Promise<T>): Promise<T> {
  const group = new Group(parent)
  try {
    return await group.settled(work(group))
  } finally {
    group[Symbol.dispose]()
  }
}
