import type { Logger } from 'pino'

const STALLED_MS = 30_000

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
  readonly #logger: Logger

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger
  }

  /** Runs `work`, unless the newest operation on that id is of the same kind and has not ended: then joins it. */
  async run<T>(id: string, kind: string, work: () => Promise<T>): Promise<T> {
    const last = this.#last.get(id)
    // The kind tells the type: every caller asks for one kind with one work.
    if (last?.kind === kind) return last.promise as Promise<T>
    const promise = (async () => {
      // How the one before ended is told to whoever asked for it.
      await last?.promise.catch(() => undefined)
      const since = performance.now()
      const timer = setInterval(() => {
        const seconds = Math.round((performance.now() - since) / 1000)
        this.#logger.warn({ id, operation: kind, seconds }, 'operation takes long')
      }, STALLED_MS)
      try {
        return await work()
      } finally {
        clearInterval(timer)
      }
    })()
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
}
