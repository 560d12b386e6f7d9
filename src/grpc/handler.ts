import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { waitFor } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import { type CallScope, openCall } from './call-scope.ts'
import { type StatusError, toStatus } from './status.ts'
import { UndecodableRequest } from './undecodable.ts'

/** What a method knows of the call beside its request. */
export interface CallContext {
  /** Aborts, with a CodedError as its reason, when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal
  /** When the caller stops waiting; undefined when it set no limit. */
  readonly deadline: Date | undefined
  /** The first value of a header of the call, by its lower-case name. */
  readonly header: (name: string) => string | undefined
  /** Ends the call with an error, also while a message waits for a slow reader. */
  abort(reason: CodedError): void
}

export type UnaryMethod<Request, Response> = (request: Request, context: CallContext) => Promise<Response>
export type ServerStreamMethod<Request, Response> = (request: Request, context: CallContext) => AsyncIterable<Response>

export interface HandlerDeps {
  readonly logger: Logger
  /** Default: nobody. */
  readonly observer?: Observer
}

/**
 * Makes a grpc-js handler of a method. Whatever the method throws becomes a status; nothing escapes to grpc-js.
 * One log line per call.
 */
export function unary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  deps: HandlerDeps,
): handleUnaryCall<Request, Response> {
  const serve = async (
    call: ServerUnaryCall<Request, Response>,
    answer: sendUnaryData<Response>,
    scope: CallScope,
  ): Promise<void> => {
    const outcome = await settle(scope, deps, async () => await method(decoded(call.request), scope))
    if (outcome.failure === undefined) answer(null, outcome.value)
    else answer(outcome.failure)
  }
  return (call, callback) => {
    const scope = openCall(call)
    serve(call, callback, scope).catch((error: unknown) => logLost(deps.logger, scope, error))
  }
}

/**
 * Makes a grpc-js handler of a method that yields messages. Each is asked for only when the one before it has left, so
 * a slow reader holds up the method, not memory. When the caller goes away, the method is not asked for more.
 */
export function serverStream<Request, Response>(
  method: ServerStreamMethod<Request, Response>,
  deps: HandlerDeps,
): handleServerStreamingCall<Request, Response> {
  const serve = async (call: ServerWritableStream<Request, Response>, scope: CallScope): Promise<void> => {
    const { failure } = await settle(scope, deps, async () => {
      for await (const message of method(decoded(call.request), scope)) {
        scope.signal.throwIfAborted()
        await waitFor(write(call, message), scope.signal)
      }
    })
    if (failure === undefined) call.end()
    // How grpc-js is told the status of a stream.
    else call.emit('error', failure)
  }
  return (call) => {
    const scope = openCall(call)
    serve(call, scope).catch((error: unknown) => logLost(deps.logger, scope, error))
  }
}

type Outcome<T> =
  | { readonly failure: undefined; readonly value: T }
  | { readonly failure: StatusError; readonly value?: never }

/** Runs what answers a call to its end, whatever that is, logs it and unties the call's signal. */
async function settle<T>(
  scope: CallScope,
  { logger, observer = UNOBSERVED }: HandlerDeps,
  run: () => Promise<T>,
): Promise<Outcome<T>> {
  const [, service = '', name = ''] = scope.path.split('/')
  let failure: StatusError | undefined
  const settled = async (): Promise<T> => {
    try {
      scope.signal.throwIfAborted()
      const value = await run()
      logCall(logger, scope)
      return value
    } catch (thrown) {
      // What a cut-off operation throws may be anything; why it was cut off is known better here.
      const error: unknown = scope.signal.aborted && !(thrown instanceof CodedError) ? scope.signal.reason : thrown
      failure = toStatus(error)
      logCall(logger, scope, failure, error)
      throw error
    } finally {
      scope.close()
    }
  }
  try {
    return {
      failure: undefined,
      value: await observer.run({ kind: 'rpc', name, service, header: scope.header }, settled),
    }
  } catch (error) {
    return { failure: failure ?? toStatus(error) }
  }
}

function decoded<Request>(request: Request): Request {
  if (request instanceof UndecodableRequest) throw request.error
  return request
}

function write<Response>(call: ServerWritableStream<unknown, Response>, message: Response): Promise<void> {
  return new Promise((resolve, reject) => {
    call.write(message, (error?: Error | null) => (error ? reject(error) : resolve()))
  })
}

function logCall(logger: Logger, scope: CallScope, failure?: StatusError, error?: unknown): void {
  const fields = { method: scope.path, code: status[failure?.code ?? status.OK], durationMs: scope.elapsedMs() }
  if (failure === undefined) logger.debug(fields, 'rpc')
  else if (error instanceof CodedError) logger.debug({ ...fields, error: failure.details }, 'rpc')
  else logger.error({ ...fields, err: error }, 'rpc failed for a reason that nobody foresaw')
}

function logLost(logger: Logger, scope: CallScope, error: unknown): void {
  logger.error({ method: scope.path, err: error }, 'the answer to a call could not be sent')
}
