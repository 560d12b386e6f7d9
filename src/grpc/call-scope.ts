import type { ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js'
import { CodedError } from '../core/errors.ts'

/**
 * A client stops a call at its own deadline, a moment before ours passes: the timeout it sends is counted from when it
 * arrives here. A call cancelled this close to its deadline ended because of it.
 */
const DEADLINE_SLACK_MS = 100

/** One call from its arrival to its answer. */
export interface CallScope {
  /** `/runtime.v1.RuntimeService/Version` */
  readonly path: string
  /** Aborts when the call is cancelled or past its deadline, unless it has been answered. */
  readonly signal: AbortSignal
  readonly deadline: Date | undefined
  /** The first value of a header of the call. */
  readonly header: (name: string) => string | undefined
  /** Aborts the signal. */
  abort(reason: CodedError): void
  elapsedMs(): number
  /** Unties the signal; to be called before the answer is given. */
  close(): void
}

type Call = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>

/** Watches over a call of grpc-js. */
export function openCall(call: Call): CallScope {
  const startMs = performance.now()
  const path = call.getPath()
  const deadlineMs = Number(call.getDeadline())
  const controller = new AbortController()
  const onCancelled = (): void => {
    const isLate = Date.now() >= deadlineMs - DEADLINE_SLACK_MS
    controller.abort(
      isLate
        ? new CodedError('DeadlineExceeded', `serve ${path}: the caller's deadline passed`)
        : new CodedError('Canceled', `serve ${path}: the caller went away`),
    )
  }
  // grpc-js emits this for a deadline too, and once more after every answer.
  if (call.cancelled) onCancelled()
  else call.once('cancelled', onCancelled)
  return {
    path,
    signal: controller.signal,
    deadline: Number.isFinite(deadlineMs) ? new Date(deadlineMs) : undefined,
    header: (name) => call.metadata.get(name)[0]?.toString(),
    abort: (reason) => controller.abort(reason),
    elapsedMs: () => Math.round((performance.now() - startMs) * 1000) / 1000,
    close: () => call.removeListener('cancelled', onCancelled),
  }
}
