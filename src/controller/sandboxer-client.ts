import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type requestCallback,
  status,
} from '@grpc/grpc-js'
import { abortReason } from '../core/deadline.ts'
import { CodedError, type ErrorCode } from '../core/errors.ts'
import type { ControllerClient } from '../generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerCreateRequest } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { ControllerStartResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { ControllerWaitResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerWaitResponse.ts'

/** The limits of one call. No call is made without them. */
export interface RemoteCall {
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/**
 * The Controller service of a remote sandboxer (containerd.services.sandbox.v1), as far as it is used here.
 * Every call throws a CodedError with the code that the peer gave and its message: `NotFound` for a sandbox that it does
 * not know, `Unavailable` when it cannot be reached, `DeadlineExceeded`, or the reason of the aborted signal.
 */
export interface SandboxerClient {
  create(request: Omit<ControllerCreateRequest, 'sandboxer'> & { sandbox_id: string }, call: RemoteCall): Promise<void>
  start(id: string, call: RemoteCall): Promise<ControllerStartResponse__Output>
  /** @param graceMs from the stop signal to SIGKILL; the peer gets whole seconds. */
  stop(id: string, graceMs: number, call: RemoteCall): Promise<void>
  /** A long poll: answers when the sandbox has ended. */
  wait(id: string, call: RemoteCall): Promise<ControllerWaitResponse__Output>
  status(id: string, verbose: boolean, call: RemoteCall): Promise<ControllerStatusResponse__Output>
  shutdown(id: string, call: RemoteCall): Promise<void>
}

/** Makes the generated client of the service; see `loadSandboxApi`. */
export type ControllerConstructor = new (
  address: string,
  channelCredentials: ReturnType<typeof credentials.createInsecure>,
  options: Record<string, string | number>,
) => ControllerClient

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024

const CHANNEL_OPTIONS = {
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  // As containerd's: a sandboxer that was restarted is found again soon.
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 3000,
  // A connection of its own, see #polls.
  'grpc.use_local_subchannel_pool': 1,
}

/** What a Go server such as containerd wants in every call; others ignore it. */
const NAMESPACE = ['containerd-namespace', 'k8s.io'] as const

const CODE_OF: Partial<Record<status, ErrorCode>> = {
  [status.CANCELLED]: 'Canceled',
  [status.INVALID_ARGUMENT]: 'InvalidArgument',
  [status.DEADLINE_EXCEEDED]: 'DeadlineExceeded',
  [status.NOT_FOUND]: 'NotFound',
  [status.ALREADY_EXISTS]: 'AlreadyExists',
  [status.RESOURCE_EXHAUSTED]: 'ResourceExhausted',
  [status.FAILED_PRECONDITION]: 'FailedPrecondition',
  [status.ABORTED]: 'Aborted',
  [status.UNIMPLEMENTED]: 'Unimplemented',
  [status.UNAVAILABLE]: 'Unavailable',
  [status.DATA_LOSS]: 'DataLoss',
}

type Send<A> = (metadata: Metadata, options: CallOptions, done: requestCallback<A>) => ClientUnaryCall

/** A {@link SandboxerClient} over gRPC. It connects at the first call, and again whenever the connection was lost. */
export class GrpcSandboxerClient implements SandboxerClient, Disposable {
  readonly #name: string
  readonly #calls: ControllerClient
  /** Long polls have their own connection: where a server bounds the streams of one, they must not use them all up. */
  readonly #polls: ControllerClient
  readonly #metadata = new Metadata()

  /** @param options.address `unix:///path` */
  constructor(
    options: { readonly name: string; readonly address: string },
    deps: { readonly Controller: ControllerConstructor },
  ) {
    this.#name = options.name
    this.#calls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#polls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#metadata.set(...NAMESPACE)
  }

  async create(request: Omit<ControllerCreateRequest, 'sandboxer'> & { sandbox_id: string }, call: RemoteCall) {
    const filled = { ...request, sandboxer: this.#name }
    await this.#unary('create', request.sandbox_id, call, (...rest) => this.#calls.create(filled, ...rest))
  }

  async start(id: string, call: RemoteCall): Promise<ControllerStartResponse__Output> {
    return this.#unary('start', id, call, (...rest) => this.#calls.start(this.#request(id), ...rest))
  }

  async stop(id: string, graceMs: number, call: RemoteCall): Promise<void> {
    const request = { ...this.#request(id), timeout_secs: Math.ceil(graceMs / 1000) }
    await this.#unary('stop', id, call, (...rest) => this.#calls.stop(request, ...rest))
  }

  async wait(id: string, call: RemoteCall): Promise<ControllerWaitResponse__Output> {
    return this.#unary('wait for', id, call, (...rest) => this.#polls.wait(this.#request(id), ...rest))
  }

  async status(id: string, verbose: boolean, call: RemoteCall): Promise<ControllerStatusResponse__Output> {
    const request = { ...this.#request(id), verbose }
    return this.#unary('read the status of', id, call, (...rest) => this.#calls.status(request, ...rest))
  }

  async shutdown(id: string, call: RemoteCall): Promise<void> {
    await this.#unary('shut down', id, call, (...rest) => this.#calls.shutdown(this.#request(id), ...rest))
  }

  [Symbol.dispose](): void {
    this.#calls.close()
    this.#polls.close()
  }

  #request(id: string): { sandbox_id: string; sandboxer: string } {
    return { sandbox_id: id, sandboxer: this.#name }
  }

  async #unary<A>(verb: string, id: string, { timeoutMs, signal }: RemoteCall, send: Send<A>): Promise<A> {
    signal.throwIfAborted()
    const what = `sandboxer ${this.#name}: ${verb} sandbox ${id}`
    return new Promise<A>((resolve, reject) => {
      const call = send(this.#metadata, { deadline: Date.now() + timeoutMs }, (error, answer) => {
        signal.removeEventListener('abort', onAbort)
        if (answer !== undefined && !error) resolve(answer)
        else if (signal.aborted) reject(abortReason(signal))
        else if (error?.code === status.DEADLINE_EXCEEDED) {
          reject(new CodedError('DeadlineExceeded', `${what}: no answer after ${timeoutMs} ms`, { cause: error }))
        } else {
          const name = status[error?.code ?? status.UNKNOWN]
          const code = CODE_OF[error?.code ?? status.UNKNOWN] ?? 'Internal'
          reject(new CodedError(code, `${what}: ${error?.details || 'no answer'} (${name})`))
        }
      })
      const onAbort = (): void => call.cancel()
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
