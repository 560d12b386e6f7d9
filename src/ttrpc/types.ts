import type { MethodDefinition } from '@grpc/proto-loader'

/** The limits of one call. */
export interface TtrpcCall {
  /** Sent to the peer as well; 0 is none. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** One ttrpc connection (github.com/containerd/ttrpc, protocol 1.2): unary calls, multiplexed, answered in any order. */
export interface TtrpcConnection extends Disposable {
  /**
   * Calls a method of a service by its full name (`containerd.task.v2.Task`); only the messages are taken from `method`.
   * @throws CodedError with the code of the peer's status and its message; `Unavailable` when the connection is lost,
   * `DeadlineExceeded` at the timeout, `ResourceExhausted` for a message that is too long, or the reason of the signal.
   */
  call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: MethodDefinition<Request, never, never, Response>,
    request: Request,
    call: TtrpcCall,
  ): Promise<Response>
  /** Resolves when the connection has ended, for whatever reason. */
  readonly closed: Promise<void>
}
