import type { Socket } from 'node:net'
import type { ShimRequest } from '../controller/controller.ts'
import type { ExitStatus, TaskEndpoint } from '../executor/types.ts'
import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'

export type PodSandboxConfig = PodSandboxConfig__Output

/** Whether the pod has a network of its own (CNI) or shares the node's. */
export type NetMode = 'cni' | 'host'

/**
 * The life of a sandbox. The CRI shows READY for RUNNING and NOTREADY for all others.
 *
 *   UNKNOWN ──start──> RUNNING ──exit, stop──> STOPPED ──remove──> REMOVING
 *      │                │   ▲                     ▲
 *      │                ▼   │ remote peer back    │
 *      │               PENDING ───────────────────┤
 *      └── start failed, or nothing known of it ──┘
 */
export type SandboxState = 'UNKNOWN' | 'RUNNING' | 'PENDING' | 'STOPPED' | 'REMOVING'

/**
 * How far one is that is served. It stays UNKNOWN until it is started. What was created or started and of which nobody
 * has asked since is collected after a while: whoever asked for it may have gone away, and does not come back for it.
 */
export type ServedPhase = 'created' | 'started' | 'claimed'

/** What a sandbox is: fixed when it is created, sealed in its checkpoint, never changed. */
export interface SandboxMetadata {
  /** 64 lower-case hex characters. */
  readonly id: string
  /** `k8s_POD_<name>_<namespace>_<uid>_<attempt>`: unique on the node. */
  readonly name: string
  /** The caller's configuration, unchanged. */
  readonly config: PodSandboxConfig
  /** The runtime handler as the caller named it; `''` was the default one. */
  readonly runtimeHandler: string
  /** The name of the controller that runs it: `shim`, `pinned`, or that of a remote sandboxer. */
  readonly sandboxer: string
  readonly netMode: NetMode
  /** Where the network namespace is pinned; `''` for host-network pods. */
  readonly netnsPath: string
  /** Nanoseconds since the epoch; strictly greater than that of every sandbox created before on this node. */
  readonly createdAtNs: bigint
  /** Only of those that are served to another front end: our own CRI has nothing to do with them. */
  readonly served?: ServedOrigin
}

/** How a front end has asked for a sandbox. */
export interface ServedOrigin {
  /** The pod's addresses, as far as they were told. */
  readonly ips: readonly string[]
  /** Which shim runs it; null: what its runtime handler says. */
  readonly shim: ShimRequest | null
}

/** What the front ends may see of a sandbox. A snapshot: reading it waits for nothing. */
export interface SandboxView {
  readonly metadata: SandboxMetadata
  readonly state: SandboxState
  /** Why the sandbox is not to be trusted (`checkpoint …: hash does not match`); `''` when nothing is wrong. */
  readonly quarantined: string
  /** The pod's addresses, the primary one first; empty for host-network pods and where there is no network (yet). */
  readonly ips: readonly string[]
}

/** What `PodSandboxStatus` adds when asked to be verbose. All of it is JSON; keys are camelCase. */
export type SandboxInfo = Readonly<Record<string, unknown>>

/** The resources of a pod as `UpdatePodSandboxResources` gives them. */
export interface PodResources {
  readonly overhead: LinuxContainerResources__Output | null
  readonly resources: LinuxContainerResources__Output | null
}

export interface SandboxFilter {
  /** The whole id or the beginning of it. */
  readonly id?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** The sandboxes of this node, as the front ends use them. */
export interface Sandboxes {
  /**
   * Runs a pod sandbox and returns its id. A retry with the same name and configuration joins the running attempt, or
   * gets the id it ended with. When `signal` aborts, the caller stops waiting; the attempt goes on to its end.
   *
   * @throws CodedError `NotFound` for an unknown runtime handler, `AlreadyExists` for a name that another configuration
   * or a stopped sandbox holds, otherwise what the failing step threw.
   */
  run(request: { config: PodSandboxConfig; runtimeHandler: string }, signal: AbortSignal): Promise<string>
  /** Stops a sandbox. Unknown and stopped ones succeed; any number of callers share one teardown. */
  stop(id: string, signal: AbortSignal): Promise<void>
  /** Stops it if need be and releases all that is left. Unknown ones succeed. */
  remove(id: string, signal: AbortSignal): Promise<void>
  /**
   * Notes the resources that a pod has been resized to, and that its containers now sum up to; its processes are limited
   * by its containers' own resources and by the cgroup that the kubelet made.
   * @throws CodedError `NotFound`; `FailedPrecondition` when it is not ready.
   */
  updateResources(id: string, resources: PodResources, signal: AbortSignal): Promise<void>
  /**
   * Connects to a TCP port on the pod's loopback address, IPv4 or IPv6, in the node's network for pods that share that.
   * @throws CodedError `NotFound`; `FailedPrecondition` when it is not ready; `Unavailable` when nobody listens there.
   */
  connect(id: string, port: number, signal: AbortSignal): Promise<Socket>
  /** @throws CodedError `NotFound`, or `InvalidArgument` when the beginning of an id fits several. */
  get(id: string): SandboxView
  /** Everything known of a sandbox, read from the machine where that is needed. */
  info(id: string, signal: AbortSignal): Promise<SandboxInfo>
  /** Newest first. */
  list(filter: SandboxFilter): SandboxView[]
}

/** What a front end asks for on sandboxer.sock. All of it is valid. */
export interface ServedRequest extends ServedOrigin {
  /** 64 lower-case hex characters. */
  readonly id: string
  readonly config: PodSandboxConfig
  /** The pod's network namespace; `''` for host-network pods. It is the front end's. */
  readonly netnsPath: string
}

/** A served sandbox, as its front end may see it. A snapshot. */
export interface ServedView {
  readonly metadata: SandboxMetadata
  readonly ready: boolean
  /** 0 before it was started, and when it has ended. */
  readonly pid: number
  readonly exit: ExitStatus | null
  /** Where its containers are run; null where its controller has no Task service, and before it was started. */
  readonly endpoint: TaskEndpoint | null
}

/**
 * The sandboxes that are served to other front ends. They are made in two phases, and their network is the front end's.
 * Ids are whole. Operations on one sandbox go one after the other, and go on when their caller goes away.
 */
export interface ServedSandboxes {
  /**
   * Makes everything but lets nothing run.
   * @throws CodedError `AlreadyExists`, otherwise what the failing step threw; then nothing is left of it.
   */
  create(request: ServedRequest, signal: AbortSignal): Promise<void>
  /**
   * Lets it run. One that runs is success.
   * @throws CodedError `NotFound`, `FailedPrecondition` when it has ended, otherwise what the failing step threw; then
   * nothing is left of it.
   */
  start(id: string, signal: AbortSignal): Promise<ServedView>
  /** How it is now. What its front end has lost of the pod's files is there again. @throws CodedError `NotFound`. */
  status(id: string, signal: AbortSignal): Promise<ServedView>
  /** Everything known of it. @throws CodedError `NotFound`. */
  info(id: string, signal: AbortSignal): Promise<SandboxInfo>
  /** Resolves when it has ended, at once if it has. @throws CodedError `NotFound`, also for one that goes away unstarted. */
  wait(id: string, signal: AbortSignal): Promise<ExitStatus>
  /** Ends its processes. Unknown and ended ones succeed. @param graceMs null: as configured. */
  stop(id: string, graceMs: number | null, signal: AbortSignal): Promise<void>
  /** Ends it and releases all of it. Unknown ones succeed. */
  shutdown(id: string, signal: AbortSignal): Promise<void>
  /** Keeps, for people, what a front end has told of its resources. @throws CodedError `NotFound`. */
  update(id: string, resources: unknown, signal: AbortSignal): Promise<void>
}
