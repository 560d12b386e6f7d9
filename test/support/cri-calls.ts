import type { CallOptions, ClientReadableStream, ClientUnaryCall, ServiceError } from '@grpc/grpc-js'
import { slowed } from './slowness.ts'

export interface CallLimits {
  /** Default: 60 s, so that a call that hangs fails the test and not the run. */
  readonly timeoutMs?: number
  /** Cancels the call. */
  readonly signal?: AbortSignal
}

type Callback<T> = (error: ServiceError | null, value?: T) => void

/** A call as a promise. */
export function unary<T>(
  limits: CallLimits,
  start: (options: CallOptions, done: Callback<T>) => ClientUnaryCall,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = start({ deadline: Date.now() + (limits.timeoutMs ?? slowed(60_000)) }, (error, value) => {
      limits.signal?.removeEventListener('abort', onAbort)
      if (error) reject(error)
      else if (value === undefined) reject(new Error('the answer is empty'))
      else resolve(value)
    })
    function onAbort(): void {
      call.cancel()
    }
    limits.signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** All that a stream holds until it ends. */
export async function collected<T>(start: (options: CallOptions) => ClientReadableStream<T>): Promise<T[]> {
  const all: T[] = []
  const call = start({ deadline: Date.now() + slowed(60_000) })
  await new Promise<void>((resolve, reject) => {
    call.on('data', (message: T) => all.push(message))
    call.on('end', resolve)
    call.on('error', reject)
  })
  return all
}
