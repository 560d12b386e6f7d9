import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { SelinuxLabels } from './security.ts'
import type { Device, DeviceRule, Hooks, IntelRdt, LinuxSeccomp, Mount, User } from './spec.ts'

/** What is known when a container's spec is built. Everything that depends on the node was read before. */
export interface ContainerSpecInput {
  readonly id: string
  readonly sandboxId: string
  readonly config: ContainerConfig__Output
  readonly podConfig: PodSandboxConfig__Output
  readonly image: ContainerImage
  /** Absolute. */
  readonly rootfsPath: string
  /** The host name in force in the pod, for the environment. */
  readonly hostname: string
  /** From `resolveUser`. */
  readonly user: User
  /** What the caller wants mounted, one mount per path; `containerSpec` puts them in order. */
  readonly mounts: readonly Mount[]
  readonly devices: ContainerDevices
  readonly namespaces: ContainerNamespacePaths
  readonly podFiles: PodFiles
  /** From `cgroupsPath`. */
  readonly cgroupsPath: string
  readonly cgroupMode: 'v1' | 'hybrid' | 'v2'
  readonly limits: NodeLimits
  /** For the bounding set of `containerCapabilities`; null is unconfined. */
  readonly seccomp: LinuxSeccomp | null
  /** From `containerAppArmor`; `''` is none. */
  readonly apparmorProfile: string
  readonly selinux: SelinuxLabels
  /** From `containerOomScoreAdj`. */
  readonly oomScoreAdj: number
  /** The daemon's bounding set: what "all capabilities" can be at most. */
  readonly allowedCapabilities: readonly string[]
  /** What the CDI devices of the container change; {@link NO_EDITS} when there are none. */
  readonly cdi: ContainerEdits
  readonly runtimeHandler: string
}

/** The parts of an image's configuration that say what to run; absent parts are empty. */
export interface ContainerImage {
  /** As the container's request names it. */
  readonly name: string
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  /** `NAME=value`. */
  readonly env: readonly string[]
  readonly workingDir: string
}

/** Device nodes to make, and what is allowed with them. From `planDevices`. */
export interface ContainerDevices {
  readonly nodes: readonly Device[]
  /** Not used for a privileged container, which may do everything with every device. */
  readonly rules: readonly DeviceRule[]
}

/**
 * Absolute paths of namespaces to join; null is the node's, {@link NEW_NAMESPACE} one of the container's own (`pid`, for
 * the mode CONTAINER). Network, IPC and UTS are always the pod's: null exactly where the pod itself uses the node's.
 */
export interface ContainerNamespacePaths {
  readonly net: string | null
  readonly ipc: string | null
  /** Follows the network. */
  readonly uts: string | null
  /** That of the pod's process (POD), of another container (TARGET), new (CONTAINER) or the node's (NODE). */
  readonly pid: string | null
  /** The pod's user namespace. Null unless the container's `userns_options` ask for one. */
  readonly user: string | null
  /** Whether the processes that hold them may be where this node does not see them, such as in a virtual machine. */
  readonly elsewhere?: boolean
}

/** Absolute paths on the node that every container of the pod sees, unless it mounts something there itself. */
export interface PodFiles {
  /** `''` leaves it out, here and below. */
  readonly hostname: string
  readonly hosts: string
  readonly resolvConf: string
  /** The pod's tmpfs, or `/dev/shm` for a pod in the node's IPC namespace. */
  readonly shm: string
}

/** What the node's cgroup controllers can limit. */
export interface NodeLimits {
  /** As in the kernel's file names (`2MB`); empty without a hugetlb controller. */
  readonly hugepageSizes: readonly string[]
  /** Whether swap is accounted: `memory.memsw.*` on v1, `memory.swap.max` on v2. */
  readonly hasSwapAccounting: boolean
}

/** Changes to a container by a device of the node (CDI specification 1.1, `containerEdits`). */
export interface ContainerEdits {
  /** `NAME=value`. */
  readonly env: readonly string[]
  /** Nodes without owner get that of the container's process. */
  readonly devices: readonly Device[]
  readonly deviceRules: readonly DeviceRule[]
  readonly mounts: readonly Mount[]
  readonly hooks: Hooks
  readonly additionalGids: readonly number[]
  readonly intelRdt: IntelRdt | null
}

export const NO_EDITS: ContainerEdits = {
  env: [],
  devices: [],
  deviceRules: [],
  mounts: [],
  hooks: {},
  additionalGids: [],
  intelRdt: null,
}
