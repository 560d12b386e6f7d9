// The package's `sandboxerd/client`: what is exported here is for others to use.
import { CodedError, invalidField } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { ProtoGrpcType as ShimPackages } from '../generated/shim.ts'
import { loadCri, loadSandboxApi, loadShimApi } from '../grpc/load.ts'
import { checkedId, createRequest, fromAny, namedSandbox } from './messages.ts'
import { GrpcSandboxerClient, type RemoteCall, type SandboxerClient } from './sandboxer-client.ts'
import { fromTimestamp } from './timestamp.ts'
import type {
  CallOptions,
  ConnectOptions,
  CreateRequest,
  SandboxerConnection,
  SandboxExit,
  SandboxMetrics,
  SandboxPlatform,
  SandboxStatus,
  StartedSandbox,
  UpdateRequest,
} from './types.ts'
import { usageOf } from './usage.ts'

export { CodedError, type ErrorCode } from '../core/errors.ts'
export type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
export type * from './types.ts'

const DEFAULT_TIMEOUT_MS = 60_000
/** The longest time that a timer takes. */
const MAX_TIMEOUT_MS = 0x7fffffff

/**
 * A client of the sandboxer at an address. It connects at the first call, and again whenever the connection was lost; until
 * it is closed, it may keep the process alive.
 * @throws CodedError `InvalidArgument` for an address that is none.
 */
export function connectSandboxer(options: ConnectOptions): SandboxerConnection {
  const { address, sandboxer: name = 'sandboxerd', namespace = 'k8s.io', timeoutMs = DEFAULT_TIMEOUT_MS } = options
  const path = String(address).replace(/^unix:(\/\/)?/, '')
  if (!path.startsWith('/')) throw invalidField('address', `${address} is not the absolute path of a Unix socket`)
  const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
  const client = new GrpcSandboxerClient({ name, address: `unix://${path}`, namespace }, { Controller })
  const encodeConfig = loadCri().runtime.v1.PodSandboxConfig.serialize
  return new Connection({ name, timeoutMs: checkedTime('timeoutMs', timeoutMs) }, { client, encodeConfig })
}

interface ConnectionDeps {
  readonly client: SandboxerClient & Disposable
  readonly encodeConfig: (config: PodSandboxConfig) => Buffer
}

class Connection implements SandboxerConnection {
  readonly #options: { readonly name: string; readonly timeoutMs: number }
  readonly #client: SandboxerClient & Disposable
  readonly #encodeConfig: ConnectionDeps['encodeConfig']
  #shim: ShimPackages | undefined

  constructor(options: { readonly name: string; readonly timeoutMs: number }, deps: ConnectionDeps) {
    this.#options = options
    this.#client = deps.client
    this.#encodeConfig = deps.encodeConfig
  }

  async create(request: CreateRequest, call?: CallOptions): Promise<void> {
    const message = createRequest(request, this.#options.name, this.#encodeConfig, nowNs())
    await this.#client.create(message, this.#limits(call))
  }

  async start(id: string, call?: CallOptions): Promise<StartedSandbox> {
    const {
      pid,
      created_at: at,
      labels,
      address,
      version,
    } = await this.#client.start(checkedId(id), this.#limits(call))
    return { pid, createdAtNs: fromTimestamp(at) ?? null, labels, address, version }
  }

  async platform(id: string, call?: CallOptions): Promise<SandboxPlatform> {
    const { platform } = await this.#client.platform(checkedId(id), this.#limits(call))
    return { os: platform?.os ?? '', architecture: platform?.architecture ?? '', variant: platform?.variant ?? '' }
  }

  async stop(id: string, { graceMs = 0, ...call }: CallOptions & { readonly graceMs?: number } = {}): Promise<void> {
    const { timeoutMs, signal } = this.#limits(call)
    const totalMs = Math.min(checkedTime('graceMs', graceMs) + timeoutMs, MAX_TIMEOUT_MS)
    const limits = { timeoutMs: timeoutMs === 0 ? 0 : totalMs, signal }
    await this.#client.stop(checkedId(id), graceMs, limits)
  }

  async wait(id: string, call?: CallOptions): Promise<SandboxExit> {
    const answer = await this.#client.wait(checkedId(id), this.#limits({ timeoutMs: 0, ...call }))
    return { exitStatus: answer.exit_status, exitedAtNs: fromTimestamp(answer.exited_at) ?? null }
  }

  async status(
    id: string,
    { verbose = false, ...call }: CallOptions & { readonly verbose?: boolean } = {},
  ): Promise<SandboxStatus> {
    const answer = await this.#client.status(checkedId(id), verbose, this.#limits(call))
    const { sandbox_id: knownAs, state, pid, info, address, version } = answer
    const createdAtNs = fromTimestamp(answer.created_at) ?? null
    const exitedAtNs = fromTimestamp(answer.exited_at) ?? null
    return {
      id: knownAs,
      ready: state === 'SANDBOX_READY',
      state,
      pid,
      info,
      createdAtNs,
      exitedAtNs,
      address,
      version,
    }
  }

  async shutdown(id: string, call?: CallOptions): Promise<void> {
    await this.#client.shutdown(checkedId(id), this.#limits(call))
  }

  async metrics(id: string, call?: CallOptions): Promise<SandboxMetrics> {
    const { metrics } = await this.#client.metrics(checkedId(id), this.#limits(call))
    const data = fromAny(metrics?.data ?? null)
    return { atNs: fromTimestamp(metrics?.timestamp ?? null) ?? null, data, usage: data && this.#usageOf(data) }
  }

  async update(id: string, request: UpdateRequest, call?: CallOptions): Promise<void> {
    await this.#client.update(namedSandbox(id, request, nowNs()), request.fields ?? [], this.#limits(call))
  }

  close(): void {
    this.#client[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  #limits({ timeoutMs = this.#options.timeoutMs, signal }: CallOptions = {}): RemoteCall {
    return { timeoutMs: checkedTime('timeoutMs', timeoutMs), signal: signal ?? new AbortController().signal }
  }

  #usageOf(data: NonNullable<SandboxMetrics['data']>): SandboxMetrics['usage'] {
    this.#shim ??= loadShimApi()
    try {
      return usageOf(data, this.#shim)
    } catch (error) {
      throw new CodedError('DataLoss', `read metrics of sandboxer ${this.#options.name}: no ${data.typeUrl}`, {
        cause: error,
      })
    }
  }
}

function checkedTime(field: string, ms: number): number {
  if (ms >= 0 && ms <= MAX_TIMEOUT_MS) return ms
  throw invalidField(field, `${ms} is not between 0 and ${MAX_TIMEOUT_MS}`)
}
