import { type CallOptions, type ClientUnaryCall, credentials, type ServiceError } from '@grpc/grpc-js'
import type { PodSandbox__Output } from '../../src/generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { PodSandboxFilter } from '../../src/generated/runtime/v1/PodSandboxFilter.ts'
import type { PodSandboxStatus__Output } from '../../src/generated/runtime/v1/PodSandboxStatus.ts'
import type { ListPodSandboxResponse__Output } from '../../src/generated/runtime/v1/ListPodSandboxResponse.ts'
import type { PodSandboxStatusResponse__Output } from '../../src/generated/runtime/v1/PodSandboxStatusResponse.ts'
import type { RunPodSandboxResponse__Output } from '../../src/generated/runtime/v1/RunPodSandboxResponse.ts'
import type { VersionResponse__Output } from '../../src/generated/runtime/v1/VersionResponse.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'
import type { StatusResponse__Output } from '../../src/generated/runtime/v1/StatusResponse.ts'
import { loadCri } from '../../src/grpc/load.ts'

export interface CallLimits {
  /** Default: 60 s, so that a call that hangs fails the test and not the run. */
  readonly timeoutMs?: number
  /** Cancels the call. */
  readonly signal?: AbortSignal
}

/** The keys of a verbose PodSandboxStatus that tests look at. */
export interface PodInfo {
  readonly id: string
  readonly state: string
  readonly pid: number
  readonly exit: { readonly code: number; readonly atNs: string; readonly reason: string } | null
  readonly netnsPath: string
  readonly quarantined: string
  readonly checkpoint: { readonly path: string; readonly hash: string; readonly valid: boolean }
  readonly cniResult: readonly unknown[]
  readonly ledger: readonly { readonly seq: number; readonly kind: string; readonly state: string }[]
  readonly steps: readonly { readonly name: string; readonly durationMs: number }[]
  readonly runtimeSpec: { readonly linux: { readonly cgroupsPath: string } } | null
}

type Callback<T> = (error: ServiceError | null, value?: T) => void

const { RuntimeService } = loadCri().runtime.v1

/** RuntimeService as promises, each call with a deadline. Errors are grpc-js's `ServiceError`: `code`, `details`. */
export class CriClient implements Disposable {
  readonly #client: RuntimeServiceClient

  constructor(socketPath: string) {
    const options = { 'grpc.max_receive_message_length': 16 * 1024 * 1024, 'grpc.use_local_subchannel_pool': 1 }
    this.#client = new RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), options)
  }

  /** Runs a pod and returns its id. */
  async run(config: PodSandboxConfig, runtimeHandler = '', limits: CallLimits = {}): Promise<string> {
    const request = { config, runtime_handler: runtimeHandler }
    const { pod_sandbox_id: id } = await unary<RunPodSandboxResponse__Output>(limits, (o, done) =>
      this.#client.RunPodSandbox(request, o, done),
    )
    return id
  }

  async stop(id: string, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.StopPodSandbox({ pod_sandbox_id: id }, o, done))
  }

  async remove(id: string, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.RemovePodSandbox({ pod_sandbox_id: id }, o, done))
  }

  async status(id: string, limits: CallLimits = {}): Promise<PodSandboxStatus__Output> {
    const request = { pod_sandbox_id: id }
    const { status } = await unary<PodSandboxStatusResponse__Output>(limits, (o, done) =>
      this.#client.PodSandboxStatus(request, o, done),
    )
    if (status === null) throw new Error(`status of ${id}: the answer holds none`)
    return status
  }

  /** What a verbose status adds. */
  async info(id: string, limits: CallLimits = {}): Promise<PodInfo> {
    const request = { pod_sandbox_id: id, verbose: true }
    const { info } = await unary<PodSandboxStatusResponse__Output>(limits, (o, done) =>
      this.#client.PodSandboxStatus(request, o, done),
    )
    return JSON.parse(info['info'] ?? '{}') as PodInfo
  }

  async list(filter?: PodSandboxFilter, limits: CallLimits = {}): Promise<PodSandbox__Output[]> {
    const request = filter ? { filter } : {}
    const { items } = await unary<ListPodSandboxResponse__Output>(limits, (o, done) =>
      this.#client.ListPodSandbox(request, o, done),
    )
    return items
  }

  /** The same as {@link list}, from the stream. */
  async stream(filter?: PodSandboxFilter): Promise<PodSandbox__Output[]> {
    const pods: PodSandbox__Output[] = []
    const call = this.#client.StreamPodSandboxes(filter ? { filter } : {}, { deadline: Date.now() + 60_000 })
    await new Promise<void>((resolve, reject) => {
      call.on('data', ({ pod_sandboxes: chunk }: { pod_sandboxes: PodSandbox__Output[] }) => pods.push(...chunk))
      call.on('end', resolve)
      call.on('error', reject)
    })
    return pods
  }

  async nodeStatus(verbose = false): Promise<StatusResponse__Output> {
    return unary<StatusResponse__Output>({}, (o, done) => this.#client.Status({ verbose }, o, done))
  }

  /** A condition of the node (`RuntimeReady`, `NetworkReady`). */
  async condition(type: string): Promise<{ status: boolean; reason: string; message: string }> {
    const found = (await this.nodeStatus()).status?.conditions.find((condition) => condition.type === type)
    if (!found) throw new Error(`status of the node: no condition ${type}`)
    return found
  }

  async version(limits: CallLimits = {}): Promise<string> {
    return (await unary<VersionResponse__Output>(limits, (o, done) => this.#client.Version({}, o, done))).runtime_name
  }

  async updatePodCidr(cidr: string): Promise<void> {
    const request = { runtime_config: { network_config: { pod_cidr: cidr } } }
    await unary({}, (o, done) => this.#client.UpdateRuntimeConfig(request, o, done))
  }

  [Symbol.dispose](): void {
    this.#client.close()
  }
}

function unary<T>(limits: CallLimits, start: (options: CallOptions, done: Callback<T>) => ClientUnaryCall): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = start({ deadline: Date.now() + (limits.timeoutMs ?? 60_000) }, (error, value) => {
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
