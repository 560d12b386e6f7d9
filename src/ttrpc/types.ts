import type { MessageTypeDefinition, MethodDefinition } from '@grpc/proto-loader'
import type { Request, Request__Output } from '../generated/ttrpc/Request.ts'
import type { Response, Response__Output } from '../generated/ttrpc/Response.ts'

/** ttrpc's own messages, see `loadTtrpc`. */
export interface TtrpcMessages {
  readonly Request: Pick<MessageTypeDefinition<Request, Request__Output>, 'serialize' | 'deserialize'>
  readonly Response: Pick<MessageTypeDefinition<Response, Response__Output>, 'serialize' | 'deserialize'>
}

/** The messages of a method as its client uses them; every method definition has them. */
export type ClientMethod<Request, Response> = Pick<
  MethodDefinition<Request, never, never, Response>,
  'requestSerialize' | 'responseDeserialize'
>

/** The messages of a method as its server uses them; likewise. */
export type ServerMethod<Request, Response> = Pick<
  MethodDefinition<never, Response, Request, never>,
  'requestDeserialize' | 'responseSerialize'
>

/** The limits of one call. */
export interface TtrpcCall {
  /** Sent to the peer as well; 0 is none. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** One ttrpc connection (github.com/containerd/ttrpc, protocol 1.2): unary calls, multiplexed, answered in any order. */
export interface TtrpcConnection extends Disposable {
  /**
   * Calls a method of a service by its full name (`containerd.task.v2.Task`); only the messages are taken from `definition`.
   * @throws CodedError with the code of the peer's status and its message; `Unavailable` when the connection is lost,
   * `DeadlineExceeded` at the timeout, `ResourceExhausted` for a message that is too long, `Internal` for an answer that
   * cannot be decoded, or the reason of the signal.
   */
  call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: ClientMethod<Request, Response>,
    request: Request,
    call: TtrpcCall,
  ): Promise<Response>
  /** Resolves when the connection has ended, for whatever reason. */
  readonly closed: Promise<void>
}

/** What a method knows of the call beside its request. */
export interface TtrpcServerCall {
  /** Aborts when the caller has gone or stops waiting. */
  readonly signal: AbortSignal
  readonly metadata: ReadonlyMap<string, string>
}

/** A method that takes one message and answers with one; what it throws becomes a status. */
export interface TtrpcMethod {
  /** Decodes the request, serves it and encodes the response. */
  serve(payload: Buffer, call: TtrpcServerCall): Promise<Buffer>
}

/** Methods by their service's full name and their own. */
export type TtrpcServices = ReadonlyMap<string, Readonly<Record<string, TtrpcMethod>>>
