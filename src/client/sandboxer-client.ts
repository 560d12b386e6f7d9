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
import { type Observer, UNOBSERVED } from '../core/observer.ts'
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

/** The methods of the service, as messages speak of them. */
const METHODS = {
  Create: 'create',
  Start: 'start',
  Stop: 'stop',
  Wait: 'wait for',
  Status: 'read the status of',
  Shutdown: 'shut down',
  Platform: 'read the platform of',
  Metrics: 'read the metrics of',
  Update: 'update',
} as const

type Method = keyof typeof METHODS

type Send<A> = (metadata: Metadata, options: CallOptions, done: requestCallback<A>) => ClientUnaryCall

/** A {@link SandboxerClient} over gRPC. It connects at the first call, and again whenever the connection was lost. */
export class GrpcSandboxerClient implements SandboxerClient, Disposable {
  readonly #name: string
  readonly #calls: ControllerClient
  /** Long polls have their own connection: where a server bounds the streams of one, they must not use them all up. */
  readonly #polls: ControllerClient
  readonly #namespace: string
  readonly #observer: Observer
  readonly #underWay = new Set<ClientUnaryCall>()
  #closed = false

  /**
   * @param options.address `unix:///path`
   * @param options.namespace of containerd; `k8s.io` by default.
   */
  constructor(
    options: { readonly name: string; readonly address: string; readonly namespace?: string },
    deps: { readonly Controller: ControllerConstructor; readonly observer?: Observer },
  ) {
    this.#observer = deps.observer ?? UNOBSERVED
    this.#name = options.name
    this.#calls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#polls = new deps.Controller(options.address, credentials.createInsecure(), CHANNEL_OPTIONS)
    this.#namespace = options.namespace ?? 'k8s.io'
  }

  async create(request: Omit<ControllerCreateRequest, 'sandboxer'> & { sandbox_id: string }, call: RemoteCall) {
    const filled = { ...request, sandboxer: this.#name }
    await this.#unary('Create', request.sandbox_id, call, (...rest) => this.#calls.create(filled, ...rest))
  }

  async start(id: string, call: RemoteCall): Promise<ControllerStartResponse__Output> {
    return this.#unary('Start', id, call, (...rest) => this.#calls.start(this.#request(id), ...rest))
  }

  async stop(id: string, graceMs: number, call: RemoteCall): Promise<void> {
    const request = { ...this.#request(id), timeout_secs: Math.ceil(graceMs / 1000) }
    await this.#unary('Stop', id, call, (...rest) => this.#calls.stop(request, ...rest))
  }

  async wait(id: string, call: RemoteCall): Promise<ControllerWaitResponse__Output> {
    return this.#unary('Wait', id, call, (...rest) => this.#polls.wait(this.#request(id), ...rest))
  }

  async status(id: string, verbose: boolean, call: RemoteCall): Promise<ControllerStatusResponse__Output> {
    const request = { ...this.#request(id), verbose }
    return this.#unary('Status', id, call, (...rest) => this.#calls.status(request, ...rest))
  }

  async shutdown(id: string, call: RemoteCall): Promise<void> {
    await this.#unary('Shutdown', id, call, (...rest) => this.#calls.shutdown(this.#request(id), ...rest))
  }

  async platform(id: string, call: RemoteCall): Promise<ControllerPlatformResponse__Output> {
    return this.#unary('Platform', id, call, (...rest) => this.#calls.platform(this.#request(id), ...rest))
  }

  async metrics(id: string, call: RemoteCall): Promise<ControllerMetricsResponse__Output> {
    return this.#unary('Metrics', id, call, (...rest) => this.#calls.metrics(this.#request(id), ...rest))
  }

  async update(sandbox: NamedSandbox, fields: readonly string[], call: RemoteCall): Promise<void> {
    const id = sandbox.sandbox_id
    const request = { ...this.#request(id), sandbox: { ...sandbox, sandboxer: this.#name }, fields: [...fields] }
    await this.#unary('Update', id, call, (...rest) => this.#calls.update(request, ...rest))
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

  async #unary<A>(method: Method, id: string, call: RemoteCall, send: Send<A>): Promise<A> {
    // It lasts as long as the sandbox: nothing that is measured.
    if (method === 'Wait') return this.#send(method, id, call, send)
    const activity = { kind: 'sandboxer', name: method, sandboxer: this.#name, id } as const
    return this.#observer.run(activity, () => this.#send(method, id, call, send))
  }

  async #send<A>(method: Method, id: string, { timeoutMs, signal }: RemoteCall, send: Send<A>): Promise<A> {
    signal.throwIfAborted()
    const what = `sandboxer ${this.#name}: ${METHODS[method]} sandbox ${id}`
    const metadata = Metadata.fromHttp2Headers(this.#observer.headers())
    metadata.set(NAMESPACE_HEADER, this.#namespace)
    if (this.#closed) throw new CodedError('Canceled', `${what}: the connection to it is closed`)
    return new Promise<A>((resolve, reject) => {
      const call = send(metadata, timeoutMs === 0 ? {} : { deadline: Date.now() + timeoutMs }, (error, answer) => {
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
      })
      this.#underWay.add(call)
      const onAbort = (): void => call.cancel()
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
