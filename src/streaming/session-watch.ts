import type { Deadline } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import type { Carrier } from './carrier.ts'

export interface WatchOptions {
  /** After how long without payload, in either direction, a session ends. */
  readonly idleTimeoutMs: number
  /** How often it is asked whether the client is still there. That is no payload. */
  readonly pingIntervalMs: number
}

/**
 * A signal that aborts, with the reason, when the connection has ended, has been idle for too long, or `parent` aborts.
 * A client that vanished while nothing is read from it shows in the answer of the kernel to a ping.
 */
export function watchSession(carrier: Carrier, options: WatchOptions, parent: AbortSignal): Deadline {
  const { idleTimeoutMs, pingIntervalMs } = options
  const controller = new AbortController()
  const ties = [carrier.signal, parent].map((signal) => ({ signal, onAbort: () => controller.abort(signal.reason) }))
  for (const { signal, onAbort } of ties) {
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  }
  const ping = setInterval(() => carrier.ping(), pingIntervalMs)
  let idle = setTimeout(checkIdle, idleTimeoutMs)
  function checkIdle(): void {
    const leftMs = carrier.lastActivityMs + idleTimeoutMs - performance.now()
    if (leftMs > 0) idle = setTimeout(checkIdle, Math.ceil(leftMs))
    else controller.abort(new CodedError('DeadlineExceeded', `keep the session: idle for ${idleTimeoutMs} ms`))
  }
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearInterval(ping)
      clearTimeout(idle)
      for (const { signal, onAbort } of ties) signal.removeEventListener('abort', onAbort)
    },
  }
}
