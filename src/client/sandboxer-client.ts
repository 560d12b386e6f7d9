import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type requestCallback,
  status,
} from '@grpc/grpc-js'
import { abortReason } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'
import { errorCodeOfStatus } from '../core/status-codes.ts'
import type { ControllerClient } from '../generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerCreateRequest } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { ControllerMetricsResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerMetricsResponse.ts'
import type { ControllerPlatformResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerPlatformResponse.ts'
import type { ControllerStartResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { ControllerWaitResponse__Output } from '../generated/containerd/services/sandbox/v1/ControllerWaitResponse.ts'
import type { Sandbox } from '../generated/containerd/types/Sandbox.ts'

/** The limits of one call. No call is made without them. */
export interface RemoteCall {
  /** 0 is none: only for `wait`. */
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
  platform(id: string, call: RemoteCall): Promise<ControllerPlatformResponse__Output>
  metrics(id: string, call: RemoteCall): Promise<ControllerMetricsResponse__Output>
  /** @param sandbox with `runtime`: a server written in Go may crash without. */
  update(sandbox: NamedSandbox, fields: readonly string[], call: RemoteCall): Promise<void>
}

/** A sandbox in an Update, with what nobody may leave out. */
export type NamedSandbox = Omit<Sandbox, 'sandboxer'> & {
  readonly sandbox_id: string
  readonly runtime: { readonly name: string }
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
  // A sandboxer that was restarted is found again at once: to look for a socket on this node costs nothing.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 500,
  // A connection of its own, see #polls.
  'grpc.use_local_subchannel_pool': 1,
}

/** What gRPC says when the deadline of a call is over; a peer may have had less patience than that, and says so itself. */
const OUR_DEADLINE = /^Deadline exceeded|^$/

/** What a Go server such as containerd wants in every call; others ignore it. */
const NAMESPACE_HEADER = 'containerd-namespace'

type Send<A> = (metadata: Metadata, options: CallOptions, done: requestCallback<A>) => ClientUnaryCall

/** A {@link SandboxerClient} over gRPC. It connects at the first call, and again whenever the connection was lost. */
export class GrpcSandboxerClient implements SandboxerClient, Disposable {
  readonly #name: string
  readonly #calls: ControllerClient
  /** Long polls have their own connection: where a server bounds the streams of one, they must not use them all up. */
  readonly #polls: ControllerClient
  readonly #metadata = new Metadata()
  readonly #underWay = new Set<ClientUnaryCall>()
  #closed = false

  /**
   * @param options.address `unix:///path`
   * @param options.namespace of containerd; `k8s.io` by default.
   */
  constructor(
    options: { readonly name: string; readonly address: string; readonly namespace?: string },
    deps: { readonly Controller: ControllerConstructor },
  ) {
    this.#name = options.name
    this.#calls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#polls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#metadata.set(NAMESPACE_HEADER, options.namespace ?? 'k8s.io')
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

  async platform(id: string, call: RemoteCall): Promise<ControllerPlatformResponse__Output> {
    return this.#unary('read the platform of', id, call, (...rest) => this.#calls.platform(this.#request(id), ...rest))
  }

  async metrics(id: string, call: RemoteCall): Promise<ControllerMetricsResponse__Output> {
    return this.#unary('read the metrics of', id, call, (...rest) => this.#calls.metrics(this.#request(id), ...rest))
  }

  async update(sandbox: NamedSandbox, fields: readonly string[], call: RemoteCall): Promise<void> {
    const id = sandbox.sandbox_id
    const request = { ...this.#request(id), sandbox: { ...sandbox, sandboxer: this.#name }, fields: [...fields] }
    await this.#unary('update', id, call, (...rest) => this.#calls.update(request, ...rest))
  }

  /** Calls that are under way fail with `Canceled`. */
  [Symbol.dispose](): void {
    this.#closed = true
    for (const call of this.#underWay) call.cancel()
    this.#calls.close()
    this.#polls.close()
  }

  #request(id: string): { sandbox_id: string; sandboxer: string } {
    return { sandbox_id: id, sandboxer: this.#name }
  }

  async #unary<A>(verb: string, id: string, { timeoutMs, signal }: RemoteCall, send: Send<A>): Promise<A> {
    signal.throwIfAborted()
    const what = `sandboxer ${this.#name}: ${verb} sandbox ${id}`
    if (this.#closed) throw new CodedError('Canceled', `${what}: the connection to it is closed`)
    return new Promise<A>((resolve, reject) => {
      const call = send(
        this.#metadata,
        timeoutMs === 0 ? {} : { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          signal.removeEventListener('abort', onAbort)
          this.#underWay.delete(call)
          if (answer !== undefined && !error) resolve(answer)
          else if (signal.aborted) reject(abortReason(signal))
          else if (error?.code === status.DEADLINE_EXCEEDED && OUR_DEADLINE.test(error.details)) {
            reject(new CodedError('DeadlineExceeded', `${what}: no answer after ${timeoutMs} ms`, { cause: error }))
          } else {
            const name = status[error?.code ?? status.UNKNOWN]
            const code = errorCodeOfStatus(error?.code ?? status.UNKNOWN)
            reject(new CodedError(code, `${what}: ${error?.details || 'no answer'} (${name})`))
          }
        },
      )
      this.#underWay.add(call)
      const onAbort = (): void => call.cancel()
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
