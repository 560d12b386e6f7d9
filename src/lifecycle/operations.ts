import { type Observer, UNOBSERVED } from '../core/observer.ts'

interface Operation {
  readonly kind: string
  readonly promise: Promise<unknown>
}

/**
 * The operations on sandboxes, or on containers: one at a time for each, in order, never one waiting for another's.
 * Whoever asks for what is already asked for gets the same answer.
 */
export class Operations {
  readonly #last = new Map<string, Operation>()
  readonly #prefix: string
  readonly #observer: Observer

  /** @param deps.prefix what tells the names of these operations from others', for who observes them: `container-`. */
  constructor(deps: { readonly observer?: Observer | undefined; readonly prefix?: string } = {}) {
    this.#observer = deps.observer ?? UNOBSERVED
    this.#prefix = deps.prefix ?? ''
  }

  /** Runs `work`, unless the newest operation on that id is of the same kind and has not ended: then joins it. */
  async run<T>(id: string, kind: string, work: () => Promise<T>): Promise<T> {
    const last = this.#last.get(id)
    // The kind tells the type: every caller asks for one kind with one work.
    if (last?.kind === kind) return last.promise as Promise<T>
    const promise = this.#observed(id, kind, last, work)
    const operation = { kind, promise }
    this.#last.set(id, operation)
    try {
      return await promise
    } finally {
      if (this.#last.get(id) === operation) this.#last.delete(id)
    }
  }

  /** Resolves when every operation that is under way now has ended, however. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#last.values()].map(({ promise }) => promise))
  }

  async #observed<T>(id: string, kind: string, last: Operation | undefined, work: () => Promise<T>): Promise<T> {
    let waitsFor = last && this.#nameOf(last.kind)
    const activity = { kind: 'operation', id, name: this.#nameOf(kind), waitsFor: () => waitsFor } as const
    return this.#observer.run(activity, async () => {
      // How the one before ended is told to whoever asked for it.
      await last?.promise.catch(() => undefined)
      waitsFor = undefined
      return work()
    })
  }

  /** Without what makes a kind one that nobody joins. */
  #nameOf(kind: string): string {
    return this.#prefix + kind.replace(/ .*/, '')
  }
}
