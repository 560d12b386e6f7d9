import { CodedError } from './errors.ts'

/** A timer that is set for longer fires at once. */
const MAX_TIMER_MS = 0x7fffffff

/** An abort signal with an owner: disposing it releases the timer and the tie to the parent. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal
}

/**
 * A signal that aborts when `parent` does or after `timeoutMs`, with a {@link CodedError} as its reason.
 * `AbortSignal.any` is not used because it leaks on a long-lived parent in Node 20.
 */
export function deadline(what: string, timeoutMs: number, parent?: AbortSignal): Deadline {
  const controller = new AbortController()
  const timer = setTimeout(
    () => {
      controller.abort(new CodedError('DeadlineExceeded', `${what}: no end after ${timeoutMs} ms`))
    },
    Math.min(timeoutMs, MAX_TIMER_MS),
  )
  const onAbort = (): void => controller.abort(parent?.reason)
  if (parent?.aborted) onAbort()
  else parent?.addEventListener('abort', onAbort, { once: true })
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer)
      parent?.removeEventListener('abort', onAbort)
    },
  }
}

/** Why a signal was aborted, as an error. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason
  return reason instanceof Error ? reason : new CodedError('Canceled', String(reason))
}

/** Resolves when `signal` aborts, or has aborted. The tie to it is released only then. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/**
 * Waits for `promise` until `signal` aborts, then rejects with the signal's reason.
 * The promise itself goes on: use it where the work has another owner.
 */
export async function waitFor<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    // As when it aborts later: that the promise fails as well is no error that nobody has handled.
    promise.catch(() => undefined)
    throw abortReason(signal)
  }
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortReason(signal))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort)
  }
}

/** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    function onAbort(this: AbortSignal): void {
      clearTimeout(timer)
      reject(abortReason(this))
    }
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
