import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import type { CgroupReading, CpuReading, IoReading, MemoryReading } from './cgroup-reading.ts'
import type { NetworkReading } from './net-dev.ts'
import type { AskMetrics } from './told-readings.ts'
import type { LayerUsage } from './writable-layers.ts'

type Texts = Readonly<Record<string, string>>

/** A container that can be measured. */
export interface ContainerTarget {
  readonly id: string
  readonly sandboxId: string
  /** As the caller gave them. */
  readonly metadata: { readonly name: string; readonly attempt: number }
  readonly labels: Texts
  readonly annotations: Texts
  /** The image as the caller named it. */
  readonly image: string
  /** Whether it has a process. Others are in no list. */
  readonly running: boolean
  /** Its cgroup: the directory below each hierarchy, as `/kubepods/pod1/ID`. */
  readonly cgroupPath: string
  /** Its first process. */
  readonly pid: number | null
  /** Asks whoever runs it, where its cgroup is not on this node. */
  readonly askMetrics?: AskMetrics
  /** The directory of its writable layer; `''` when it has none. */
  readonly upperDir: string
  /** Nanoseconds since the epoch; 0n before it was started. */
  readonly startedAtNs: bigint
  /** The limits in force. */
  readonly resources: LinuxContainerResources__Output | null
}

/** A pod sandbox that can be measured. */
export interface SandboxTarget {
  readonly id: string
  /** As the caller gave them. */
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly uid: string
    readonly attempt: number
  }
  readonly labels: Texts
  readonly annotations: Texts
  /** Whether it is READY. Others are in no list. */
  readonly ready: boolean
  /** The cgroup of its pause process: the directory below each hierarchy; `''` when it has none. */
  readonly cgroupPath: string
  /** The cgroup that the caller gave the pod: the directory below each hierarchy; `''` when it gave none. */
  readonly cgroupParent: string
  /** Its pause process. */
  readonly pid: number | null
  /** Asks its controller what the whole pod uses, where its cgroup is not on this node. */
  readonly askMetrics?: AskMetrics
  /** Where its network namespace is pinned; `''` when it shares the node's. */
  readonly netnsPath: string
}

/** What there is to measure. Both are snapshots, and cost no more than the list they return. */
export interface StatsSource {
  containers(): readonly ContainerTarget[]
  sandboxes(): readonly SandboxTarget[]
}

/** What a container uses. The same object until it is measured again. */
export interface ContainerSample {
  readonly target: ContainerTarget
  /** Null when it does not run. */
  readonly cgroup: CgroupReading | null
  /** Billionths of a core, over a window that ends with the reading; null until there is one. */
  readonly usageNanoCores: number | null
  /** Null until it was first measured. */
  readonly writableLayer: LayerUsage | null
}

/** What a pod uses: its own cgroup where it has one for itself, else its containers and its pause process together. */
export interface SandboxSample {
  readonly target: SandboxTarget
  readonly cpu: CpuReading | null
  readonly usageNanoCores: number | null
  readonly memory: MemoryReading | null
  readonly io: IoReading | null
  readonly processCount: number | null
  /** Null for pods on the node's network. */
  readonly network: NetworkReading | null
  readonly containers: readonly ContainerSample[]
}

/** The file system of all writable layers. */
export interface LayerFileSystem {
  /** A device, as `/dev/sda1`, or what stands for one. */
  readonly device: string
  readonly totalBytes: number
  readonly totalInodes: number
  readonly freeInodes: number
}

/** What a pod's metrics are made of. The `detail` of the containers' readings is there. */
export interface MetricsSample {
  readonly target: SandboxTarget
  readonly network: NetworkReading | null
  readonly containers: readonly ContainerSample[]
  readonly fileSystem: LayerFileSystem | null
}

export interface StatsFilter {
  /** The whole id or the beginning of it. */
  readonly id?: string
  /** The whole id of the pod sandbox or the beginning of it. */
  readonly sandboxId?: string
  readonly labels?: Texts
}

/**
 * What the containers and pods of this node use. All answers may be as old as the configured interval, within which
 * nothing is read twice, however many ask. What disappears meanwhile is left out.
 *
 * Lists hold what runs. Without a filter they are the same array for as long as they hold the same.
 */
export interface Stats {
  /** @throws CodedError `NotFound`, or `InvalidArgument` when the beginning of an id fits several. */
  container(id: string, signal: AbortSignal): Promise<ContainerSample>
  containers(filter: StatsFilter, signal: AbortSignal): Promise<readonly ContainerSample[]>
  /** @throws CodedError `NotFound`, or `InvalidArgument` when the beginning of an id fits several. */
  sandbox(id: string, signal: AbortSignal): Promise<SandboxSample>
  sandboxes(filter: Pick<StatsFilter, 'id' | 'labels'>, signal: AbortSignal): Promise<readonly SandboxSample[]>
  metrics(signal: AbortSignal): Promise<readonly MetricsSample[]>
}
