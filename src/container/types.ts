import type { ExitStatus, ProcessStreams, StreamedExecRequest, StreamsWanted } from '../executor/types.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import type { ProcessIdentity } from '../host/process.ts'

export type ContainerConfig = ContainerConfig__Output
export type ContainerResources = LinuxContainerResources__Output

/**
 * The life of a container, inside and in the CRI.
 *
 *   CREATED ──start──> RUNNING ──exit, stop──> EXITED ──remove──> (gone)
 *      └───────────── stop, reboot ──────────────┘
 *
 * UNKNOWN is one that cannot be observed, or of which nothing but the id can be read.
 */
export type ContainerState = 'CREATED' | 'RUNNING' | 'EXITED' | 'UNKNOWN'

/** The user of a container's first process. */
export interface ContainerUser {
  readonly uid: number
  readonly gid: number
  /** With the primary group. */
  readonly additionalGids: readonly number[]
}

/** What a container is: fixed when it is created, sealed in its row, never changed. */
export interface ContainerMetadata {
  /** 64 lower-case hex characters. */
  readonly id: string
  /** `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`: unique on the node. */
  readonly name: string
  readonly sandboxId: string
  /** The caller's configuration, unchanged. */
  readonly config: ContainerConfig
  readonly imageId: string
  /** A digest reference of the image where it has one, else its id. */
  readonly imageRef: string
  /** The images that it mounts. */
  readonly mountedImageIds: readonly string[]
  /** Absolute, or `''` when the container has no log. */
  readonly logPath: string
  /** The signal that asks it to end, `SIGTERM` for instance: the request's, the image's or the default. */
  readonly stopSignal: string
  /** Nanoseconds since the epoch; greater than that of every container created before on this node. */
  readonly createdAtNs: bigint
  /** Its first process is one that was checkpointed: there is none before the start, which restores it. */
  readonly restored?: true
}

/** What changes in the life of a container. */
export interface ContainerStatus {
  readonly state: ContainerState
  /** False while it is being created, or being taken back. */
  readonly visible: boolean
  readonly removing: boolean
  readonly process: ProcessIdentity | null
  /** 0n before it was started. */
  readonly startedAtNs: bigint
  readonly exit: ExitStatus | null
  /** Whether the kernel killed its first process for want of memory. */
  readonly oomKilled: boolean
  /** Why it could not be started, for people; `''` otherwise. */
  readonly message: string
  /** Null before its image's files were looked at. */
  readonly user: ContainerUser | null
  /** The resources in force, after updates. */
  readonly resources: ContainerResources | null
}

/** What the front ends may see of a container. A snapshot: reading it waits for nothing. */
export interface ContainerView {
  readonly metadata: ContainerMetadata
  readonly status: ContainerStatus
  /** Why it is not to be trusted; `''` when nothing is wrong. */
  readonly quarantined: string
}

export interface ContainerFilter {
  /** The whole id or the beginning of it. */
  readonly id?: string
  /** The whole id of the pod sandbox or the beginning of it. */
  readonly sandboxId?: string
  readonly labels?: Readonly<Record<string, string>>
}

export interface ExecResult {
  readonly exitCode: number
  readonly stdout: Buffer
  readonly stderr: Buffer
}

/** What `ContainerStatus` adds when asked to be verbose. All of it is JSON; keys are camelCase. */
export type ContainerInfo = Readonly<Record<string, unknown>>

/** The containers of this node, as the front ends use them. */
export interface Containers {
  /**
   * Creates a container in a ready sandbox and returns its id: its process exists and waits for the start. A retry with
   * the same name and configuration joins the running attempt, or gets the id it ended with.
   * @throws CodedError `NotFound` (sandbox, image), `FailedPrecondition` (the sandbox is not ready), `AlreadyExists`,
   * `InvalidArgument` naming the field.
   */
  create(
    request: { readonly sandboxId: string; readonly config: ContainerConfig },
    signal: AbortSignal,
  ): Promise<string>
  /** @throws CodedError `NotFound`; `FailedPrecondition` when it is not CREATED. */
  start(id: string, signal: AbortSignal): Promise<void>
  /** Stop signal, grace, SIGKILL. A later call with less grace shortens the one under way. Unknown ones succeed. */
  stop(id: string, timeoutMs: number, signal: AbortSignal): Promise<void>
  /** Kills it if need be and releases all of it. Unknown ones succeed. */
  remove(id: string, signal: AbortSignal): Promise<void>
  /** @throws CodedError `NotFound`, or `InvalidArgument` when the beginning of an id fits several. */
  get(id: string): ContainerView
  info(id: string, signal: AbortSignal): Promise<ContainerInfo>
  /** Newest first. */
  list(filter: ContainerFilter): ContainerView[]
  /** @throws CodedError `FailedPrecondition` when it neither runs nor is created. */
  updateResources(id: string, resources: ContainerResources, signal: AbortSignal): Promise<void>
  /**
   * Runs a command in a running container. Each stream is cut at 16 MiB. With a timeout (0 is none) its whole process
   * tree is killed when that passes.
   * @throws CodedError `DeadlineExceeded`, `FailedPrecondition` when the container does not run.
   */
  execSync(
    id: string,
    request: { readonly command: readonly string[]; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ExecResult>
  /**
   * Runs a command in a running container for a client that talks to it. When `signal` aborts, all its processes are killed.
   * @throws CodedError `FailedPrecondition` when the container does not run.
   */
  exec(id: string, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams>
  /**
   * The streams of a running container's first process, for one of any number of clients: what it writes from now on, and
   * its input where it was created with one. When the client goes, the container is left running.
   * @throws CodedError `FailedPrecondition` when the container does not run.
   */
  attach(id: string, request: StreamsWanted, signal: AbortSignal): Promise<ProcessStreams>
  /** @throws CodedError `FailedPrecondition` when it does not run. */
  reopenLog(id: string, signal: AbortSignal): Promise<void>
  /**
   * Writes the state of a running container to an archive, which replaces a file that is there. The container goes on.
   * @param request.timeoutMs 0 is the node's own limit, which is the longest.
   * @throws CodedError `FailedPrecondition` when the container does not run, or the runtime, criu or the kernel cannot.
   */
  checkpoint(
    id: string,
    request: { readonly location: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void>
}

export interface CheckpointPod {
  readonly sandboxId: string
  /** An empty directory. */
  readonly outputPath: string
  /** One or more, each once. */
  readonly containerIds: readonly string[]
}

export interface RestorePod {
  /** The directory that a checkpoint was written into. */
  readonly checkpointPath: string
  readonly config: PodSandboxConfig__Output
  /** `''` is the default one. */
  readonly runtimeHandler: string
  /** For every checkpointed container. */
  readonly containers: readonly ContainerConfig[]
}

export interface RestoredPod {
  readonly sandboxId: string
  readonly containers: readonly { readonly name: string; readonly id: string }[]
}

/** Checkpoints of pods, as the front ends use them. */
export interface PodCheckpoints {
  /**
   * Writes the state that running containers of a pod have at one moment. They go on. When it fails, nothing is left of it.
   * @throws CodedError `NotFound`, `InvalidArgument`, `FailedPrecondition` when one of them does not run, or the runtime,
   * criu or the kernel cannot.
   */
  checkpoint(request: CheckpointPod, signal: AbortSignal): Promise<void>
  /**
   * Makes a new pod of the given configuration with containers that are CREATED, and go on from their checkpointed state
   * when they are started. When it fails, nothing is left of it.
   * @throws CodedError `FailedPrecondition` for a checkpoint that this node has not written, `InvalidArgument` naming the
   * field that does not fit it, `AlreadyExists`.
   */
  restore(request: RestorePod, signal: AbortSignal): Promise<RestoredPod>
}
