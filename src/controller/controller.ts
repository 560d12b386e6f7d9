import type { AnnouncedTask } from '../executor/task/types.ts'
import type { ExitStatus, TaskEndpoint } from '../executor/types.ts'
import type { Any } from '../generated/google/protobuf/Any.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { ProcessIdentity } from '../host/process.ts'

/** What a controller is given to make a sandbox of. */
export interface SandboxSpec {
  readonly id: string
  readonly config: PodSandboxConfig__Output
  readonly hostname: string
  /** The name of the runtime handler; a controller looks up what it stands for. */
  readonly runtimeHandler: string
  /** The name of the controller that it is for. */
  readonly sandboxer: string
  /** Where the pod's network namespace is pinned; `''` for host-network pods. */
  readonly netnsPath: string
  /** Where the user namespace is pinned that owns the pod's other ones; `''` for pods in the node's. */
  readonly usernsPath: string
  /** A directory of this sandbox alone, for as long as it runs. It does not survive a reboot. */
  readonly stateDir: string
  /** The pod's /dev/shm. */
  readonly shmPath: string
  /** The pod's addresses, the primary one first, for a controller that wants the network set up before. */
  readonly ips?: readonly string[]
  /** The results of its networks, likewise. */
  readonly networks?: readonly PodNetwork[]
  /** Which shim is to run it, where a front end has asked for one; otherwise its runtime handler says. */
  readonly shim?: ShimRequest
}

/** What a CNI network has given to a pod. */
export interface PodNetwork {
  readonly result: {
    readonly interfaces: readonly { readonly name: string; readonly mac: string; readonly sandbox: string }[]
    /** `address` with prefix length; `interface` is an index into `interfaces`. */
    readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[]
    readonly routes: readonly object[]
    readonly dns: object
  }
}

/** A containerd shim (runtime v2), as a front end asks for it. */
export interface ShimRequest {
  /** e.g. `io.containerd.runc.v2`, or the absolute path of a shim. */
  readonly runtimeType: string
  /** Of its runtime, e.g. containerd.runc.v1.Options; base64 of the protobuf in `value`. */
  readonly options: { readonly typeUrl: string; readonly value: string } | null
  /** containerd namespace, e.g. `k8s.io`. */
  readonly namespace: string
  /** Path of the ttrpc socket where it sends its events; `''` is ours. */
  readonly eventsAddress: string
}

/** What a controller notes down of a sandbox before it makes it: JSON, and all that `shutdown` needs. */
export type ControllerRecord = Readonly<Record<string, unknown>>

/** Absolute paths of namespaces to join. The network is not among them: it is not the controller's. */
export interface SandboxNamespaces {
  readonly ipc?: string
  readonly uts?: string
  /** Of a pod that shares one among its containers. */
  readonly pid?: string
}

/** What a controller can see of a sandbox. */
export interface ControllerStatus {
  readonly state: 'running' | 'stopped' | 'unknown'
  readonly process: ProcessIdentity | null
  /** How it ended, if that is known. */
  readonly exit: ExitStatus | null
}

/**
 * Runs sandboxes of one sandboxer: the nine verbs of containerd's sandbox Controller API, as far as a node has use for
 * them. A controller remembers nothing: each call works from the record, also after a restart of the daemon.
 */
export interface Controller<R extends ControllerRecord = ControllerRecord> {
  readonly name: string
  /** Whether it wants the network set up before `create`; otherwise both happen at the same time. */
  readonly networkFirst: boolean
  /**
   * Whether somebody else runs its sandboxes: there is no process to be seen, `status` may have to be waited for and may
   * be `unknown`, and what is needed on this node for a pause process is not needed for it.
   */
  readonly remote: boolean
  /**
   * Says what will be made. Nothing is made yet.
   * @throws CodedError `InvalidArgument` or `FailedPrecondition` for what this controller cannot do.
   */
  plan(spec: SandboxSpec): Promise<R>
  /** @throws CodedError `DataLoss` for a record that this controller did not write. */
  parse(record: unknown): R
  /** Called for each sandbox that is on record when the daemon starts, before any other call for it. */
  adopt(record: R): void
  create(record: R, spec: SandboxSpec, signal: AbortSignal): Promise<void>
  /** Returns the sandbox's first process, or null when it has none. */
  start(record: R, signal: AbortSignal): Promise<ProcessIdentity | null>
  /** The record with what only the start has told, to be kept from then on. */
  startedRecord?(record: R): R
  /**
   * Where the containers of a started sandbox are run, and whether its tasks are to be announced before they are made.
   * Without this method, or null: by the OCI runtime of its handler, under conmon.
   */
  tasks?(record: R): (TaskEndpoint & { readonly announced: boolean }) | null
  /**
   * Tells a sandboxer all the tasks of a sandbox; only where `tasks` says that they are to be announced. Callers make these
   * calls for one sandbox one after the other.
   */
  announce?(record: R, tasks: readonly AnnouncedTask[], signal: AbortSignal): Promise<void>
  /**
   * What the sandbox uses, as `io.containerd.cgroups.v1.Metrics` or `v2`. Null when its controller cannot tell: then it is
   * read from the pod's cgroup, if that is on this node.
   */
  metrics?(record: R, signal: AbortSignal): Promise<Any | null>
  /** Ends the sandbox's processes, with a grace period. Success when there are none (any more). */
  stop(record: R, process: ProcessIdentity | null, graceMs: number, signal: AbortSignal): Promise<void>
  /**
   * Resolves when the sandbox has ended by itself or was stopped; never for one that has no process.
   * @param onReachable told by a remote controller whether the sandbox can be observed, and why not: first, and at each
   * change.
   */
  wait(
    record: R,
    process: ProcessIdentity | null,
    signal: AbortSignal,
    onReachable?: (reachable: boolean, problem: string) => void,
  ): Promise<ExitStatus>
  /**
   * The pod's namespaces as paths, for containers that join them; left out is what the pod does not have for itself.
   * @throws CodedError `Unimplemented` when the sandboxer runs the containers itself, `FailedPrecondition` when the
   * process that holds the namespaces has ended.
   */
  namespaces(record: R, process: ProcessIdentity | null): SandboxNamespaces
  status(record: R, process: ProcessIdentity | null): Promise<ControllerStatus>
  /** Removes all that is left of the sandbox, running or not. Nothing there is success. */
  shutdown(record: R, signal: AbortSignal): Promise<void>
  /** For people: the runtime spec and the like. */
  info(record: R): Promise<Readonly<Record<string, unknown>>>
  /** The sandboxes of ours that this controller sees on the machine, and by what. */
  listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]>
}
