import { Client, type ClientUnaryCall, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { abortReason, waitFor } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import { type Observer, UNOBSERVED } from '../../core/observer.ts'
import { errorCodeOfStatus } from '../../core/status-codes.ts'
import { connectTtrpc, type TtrpcTarget } from '../../ttrpc/connect.ts'
import type { ClientMethod, TtrpcConnection, TtrpcMessages } from '../../ttrpc/types.ts'
import type { TaskCall } from './types.ts'

/** Containers of Kubernetes have one namespace at containerd's shims. */
export const TASK_NAMESPACE = 'k8s.io'
const CONNECT_MS = 5000
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024

/** What carries calls to one address. Connected at the first call, and again after the connection was lost. */
export interface TaskChannel extends Disposable {
  /** @throws CodedError as TaskService says. */
  call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: ClientMethod<Request, Response>,
    request: Request,
    call: TaskCall,
  ): Promise<Response>
}

export interface TtrpcChannelDeps extends ChannelDeps {
  readonly messages: TtrpcMessages
}

interface ChannelDeps {
  /** Whose headers calls carry; default: nobody's. */
  readonly observer?: Observer
}

/** Calls over one ttrpc connection at a time. */
export class TtrpcChannel implements TaskChannel {
  readonly #target: TtrpcTarget
  readonly #address: string
  readonly #deps: TtrpcChannelDeps
  #connection: Promise<TtrpcConnection> | undefined

  constructor(address: string, target: TtrpcTarget, deps: TtrpcChannelDeps) {
    this.#address = address
    this.#target = target
    this.#deps = deps
  }

  async call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: ClientMethod<Request, Response>,
    request: Request,
    call: TaskCall,
  ): Promise<Response> {
    call.signal.throwIfAborted()
    const connection = await waitFor(this.#connect(), call.signal)
    return connection.call(service, method, definition, request, call)
  }

  [Symbol.dispose](): void {
    // One that is still being made is nobody's concern but ours; that it fails, nobody's at all.
    this.#connection?.then((connection) => connection[Symbol.dispose]()).catch(() => undefined)
    this.#connection = undefined
  }

  /** Shared by all calls: the time limit is its own. */
  #connect(): Promise<TtrpcConnection> {
    if (this.#connection) return this.#connection
    const { messages, observer } = this.#deps
    const metadata = { 'containerd-namespace-ttrpc': TASK_NAMESPACE }
    const options = { address: this.#address, metadata, headers: observer && (() => observer.headers()) }
    const limits = { timeoutMs: CONNECT_MS, signal: new AbortController().signal }
    const connection = connectTtrpc(this.#target, options, { messages }, limits)
    const forget = (): void => {
      if (this.#connection === connection) this.#connection = undefined
    }
    this.#connection = connection
    connection.then(({ closed }) => closed).then(forget, forget)
    return connection
  }
}

/** Calls over gRPC, which looks after its connection itself. */
export class GrpcChannel implements TaskChannel {
  readonly #address: string
  readonly #client: Client
  readonly #observer: Observer

  constructor(address: string, path: string, { observer = UNOBSERVED }: ChannelDeps = {}) {
    this.#address = address
    this.#observer = observer
    this.#client = new Client(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms': 200,
      'grpc.max_reconnect_backoff_ms': 3000,
    })
  }

  async call<Request extends object, Response extends object>(
    service: string,
    method: string,
    { requestSerialize, responseDeserialize }: ClientMethod<Request, Response>,
    request: Request,
    { timeoutMs, signal }: TaskCall,
  ): Promise<Response> {
    signal.throwIfAborted()
    const options = timeoutMs > 0 ? { deadline: Date.now() + timeoutMs } : {}
    const metadata = Metadata.fromHttp2Headers(this.#observer.headers())
    metadata.set('containerd-namespace', TASK_NAMESPACE)
    return new Promise<Response>((resolve, reject) => {
      const onAbort = (): void => call.cancel()
      const done = (error: ServiceError | null, response?: Response): void => {
        signal.removeEventListener('abort', onAbort)
        if (!error && response) resolve(response)
        else reject(signal.aborted ? abortReason(signal) : this.#failure(method, error))
      }
      const path = `/${service}/${method}`
      const call: ClientUnaryCall = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        options,
        done,
      )
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  [Symbol.dispose](): void {
    this.#client.close()
  }

  #failure(method: string, error: ServiceError | null): CodedError {
    const code = errorCodeOfStatus(error?.code ?? status.UNKNOWN)
    return new CodedError(code, `${method} at ${this.#address}: ${error?.details || 'no answer'}`)
  }
}
