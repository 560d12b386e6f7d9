import { abortReason, waitFor } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'

interface Work<T> {
  readonly promise: Promise<T>
  readonly controller: AbortController
  waiting: number
}

/** Works that are asked for by several at once and done once. One that nobody waits for any more is cancelled. */
export class SharedWorks<T> implements AsyncDisposable {
  readonly #byKey = new Map<string, Work<T>>()
  readonly #all = new Set<Work<T>>()

  /** Starts the work, or joins it. @param signal ends the waiting only. */
  async join(key: string, start: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const work = this.#byKey.get(key) ?? this.#start(key, start)
    work.waiting++
    try {
      return await waitFor(work.promise, signal)
    } finally {
      work.waiting--
      if (work.waiting === 0 && signal.aborted) {
        // Who comes now starts anew, and does not get the error of those who have left.
        if (this.#byKey.get(key) === work) this.#byKey.delete(key)
        work.controller.abort(abortReason(signal))
      }
    }
  }

  /** Cancels all works and waits for their ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    const works = [...this.#all]
    for (const work of works) work.controller.abort(new CodedError('Canceled', 'the daemon stops'))
    await Promise.allSettled(works.map((work) => work.promise))
  }

  #start(key: string, start: (signal: AbortSignal) => Promise<T>): Work<T> {
    const controller = new AbortController()
    const work: Work<T> = { promise: start(controller.signal), controller, waiting: 0 }
    this.#byKey.set(key, work)
    this.#all.add(work)
    const forget = (): void => {
      this.#all.delete(work)
      if (this.#byKey.get(key) === work) this.#byKey.delete(key)
    }
    work.promise.then(forget, forget)
    return work
  }
}
