import { credentials } from '@grpc/grpc-js'
import type { CheckpointPodRequest } from '../../src/generated/runtime/v1/CheckpointPodRequest.ts'
import type { RestorePodRequest } from '../../src/generated/runtime/v1/RestorePodRequest.ts'
import type { RestorePodResponse__Output } from '../../src/generated/runtime/v1/RestorePodResponse.ts'
import type { PodSandbox__Output } from '../../src/generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { PodSandboxFilter } from '../../src/generated/runtime/v1/PodSandboxFilter.ts'
import type { PodSandboxStatus__Output } from '../../src/generated/runtime/v1/PodSandboxStatus.ts'
import type { LinuxContainerResources } from '../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { ListPodSandboxResponse__Output } from '../../src/generated/runtime/v1/ListPodSandboxResponse.ts'
import type { PodSandboxStatusResponse__Output } from '../../src/generated/runtime/v1/PodSandboxStatusResponse.ts'
import type { RunPodSandboxResponse__Output } from '../../src/generated/runtime/v1/RunPodSandboxResponse.ts'
import type { VersionResponse__Output } from '../../src/generated/runtime/v1/VersionResponse.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'
import type { StatusResponse__Output } from '../../src/generated/runtime/v1/StatusResponse.ts'
import { loadCri } from '../../src/grpc/load.ts'
import { type CallLimits, collected, unary } from './cri-calls.ts'
import { ContainerClient } from './cri-containers.ts'
import { EventStream } from './cri-events.ts'
import { ImageClient } from './cri-images.ts'
import { StatsClient } from './cri-stats.ts'
import { StreamUrlClient } from './cri-streaming.ts'

/** The keys of a verbose PodSandboxStatus that tests look at. */
export interface PodInfo {
  readonly id: string
  readonly state: string
  readonly pid: number
  readonly exit: { readonly code: number; readonly atNs: string; readonly reason: string } | null
  readonly netnsPath: string
  readonly quarantined: string
  /** Of a pod of a remote sandboxer: whether that does not answer. */
  readonly stale?: boolean
  readonly checkpoint: { readonly path: string; readonly hash: string; readonly valid: boolean }
  readonly cniResult: readonly unknown[]
  readonly ledger: readonly { readonly seq: number; readonly kind: string; readonly state: string }[]
  readonly steps: readonly { readonly name: string; readonly durationMs: number }[]
  readonly runtimeSpec: { readonly linux: { readonly cgroupsPath: string } } | null
}

const { RuntimeService } = loadCri().runtime.v1

/** Both services as promises, each call with a deadline. Errors are grpc-js's `ServiceError`: `code`, `details`. */
export class CriClient implements Disposable {
  readonly containers: ContainerClient
  readonly images: ImageClient
  readonly stats: StatsClient
  readonly streamUrls: StreamUrlClient
  readonly #client: RuntimeServiceClient

  constructor(socketPath: string) {
    const options = { 'grpc.max_receive_message_length': 64 * 1024 * 1024, 'grpc.use_local_subchannel_pool': 1 }
    this.#client = new RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), options)
    this.containers = new ContainerClient(this.#client)
    this.images = new ImageClient(socketPath)
    this.stats = new StatsClient(this.#client)
    this.streamUrls = new StreamUrlClient(this.#client)
  }

  /** Runs a pod and returns its id. */
  async run(config: PodSandboxConfig, runtimeHandler = '', limits: CallLimits = {}): Promise<string> {
    const request = { config, runtime_handler: runtimeHandler }
    const { pod_sandbox_id: id } = await unary<RunPodSandboxResponse__Output>(limits, (o, done) =>
      this.#client.RunPodSandbox(request, o, done),
    )
    return id
  }

  async checkpointPod(request: CheckpointPodRequest, limits: CallLimits = {}): Promise<void> {
    await unary(limits, (o, done) => this.#client.CheckpointPod(request, o, done))
  }

  async restorePod(request: RestorePodRequest, limits: CallLimits = {}): Promise<RestorePodResponse__Output> {
    return unary<RestorePodResponse__Output>(limits, (o, done) => this.#client.RestorePod(request, o, done))
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
    const parts = await collected((o) => this.#client.StreamPodSandboxes(filter ? { filter } : {}, o))
    return parts.flatMap(({ pod_sandboxes: pods }) => pods)
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

  /** UpdatePodSandboxResources. */
  async updatePod(id: string, resources: LinuxContainerResources): Promise<void> {
    const request = { pod_sandbox_id: id, resources }
    await unary({}, (o, done) => this.#client.UpdatePodSandboxResources(request, o, done))
  }

  /** Subscribes to GetContainerEvents. */
  events(): EventStream {
    return new EventStream(this.#client)
  }

  [Symbol.dispose](): void {
    this.images[Symbol.dispose]()
    this.#client.close()
  }
}
