import { CodedError } from '../core/errors.ts'
import type { CallContext } from '../grpc/handler.ts'

/** The calls of Wait that are under way. They may last for as long as a pod, and are ended when the daemon ends. */
export class Waits implements Disposable {
  readonly #calls = new Set<CallContext>()
  #isClosed = false

  async run<T>(call: CallContext, work: () => Promise<T>): Promise<T> {
    if (this.#isClosed) throw stopping()
    this.#calls.add(call)
    try {
      return await work()
    } finally {
      this.#calls.delete(call)
    }
  }

  get size(): number {
    return this.#calls.size
  }

  /** Clients take this answer for a lost connection, and ask the next daemon. */
  [Symbol.dispose](): void {
    this.#isClosed = true
    for (const call of this.#calls) call.abort(stopping())
  }
}

function stopping(): CodedError {
  return new CodedError('Unavailable', 'wait for the end of a sandbox: the daemon stops')
}
