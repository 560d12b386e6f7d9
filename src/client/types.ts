import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'

/** Which sandboxer to talk to, and how. */
export interface ConnectOptions {
  /** The Unix socket that it serves: an absolute path, with or without `unix://`. */
  readonly address: string
  /** Its name, which every request has: a server that holds several sandboxers goes by it. `sandboxerd` by default. */
  readonly sandboxer?: string
  /** Of containerd, sent with every call. `k8s.io` by default. */
  readonly namespace?: string
  /** For calls that name no time of their own, but `wait`. 60 s by default. */
  readonly timeoutMs?: number
}

/** The limits of one call. */
export interface CallOptions {
  /** Then the call fails with `DeadlineExceeded`. 0 is no limit, which is what `wait` has by default. */
  readonly timeoutMs?: number
  /** Ends the call; it fails with the reason of the signal. The sandboxer may go on with what it has begun. */
  readonly signal?: AbortSignal
}

/** A protobuf message of any type (google.protobuf.Any). */
export interface EncodedMessage {
  /** e.g. `containerd.runc.v1.Options`. */
  readonly typeUrl: string
  readonly value: Uint8Array
}

/** What runs a sandbox. */
export interface SandboxRuntime {
  /** A containerd runtime type, or the absolute path of a shim. `io.containerd.runc.v2` by default. */
  readonly name?: string
  /** For the runtime, e.g. containerd.runc.v1.Options. None by default. */
  readonly options?: EncodedMessage
}

/** What the record of a sandbox says beside its configuration (containerd.types.Sandbox). */
export interface SandboxDetails {
  readonly runtime?: SandboxRuntime
  /** Of the sandbox; those of the pod are in its configuration. By default, `name` as containerd makes it. */
  readonly labels?: Readonly<Record<string, string>>
  /** Of others, by key. */
  readonly extensions?: Readonly<Record<string, EncodedMessage>>
}

/** A sandbox to be made. */
export interface CreateRequest extends SandboxDetails {
  /** Yours to choose, and never used twice: 64 digits of hex are what all sandboxers accept. */
  readonly id: string
  /** As in the CRI's RunPodSandbox. It is encoded for you. */
  readonly config: PodSandboxConfig
  /** Where the network namespace of the sandbox is pinned. By default `''`: the node's network. */
  readonly netnsPath?: string
  /** By default those of the configuration. */
  readonly annotations?: Readonly<Record<string, string>>
}

/** Changes to a sandbox. */
export interface UpdateRequest extends SandboxDetails {
  /** Paths of the fields to take over, e.g. `extensions.tasks`; by default all. */
  readonly fields?: readonly string[]
}

/** A sandbox that was started. */
export interface StartedSandbox {
  /** Of the process that holds the sandbox, as this node sees it; 0 when there is none. */
  readonly pid: number
  /** Nanoseconds since the epoch; null when the sandboxer does not say. */
  readonly createdAtNs: bigint | null
  readonly labels: Readonly<Record<string, string>>
  /** Where the Task service of its containers listens, e.g. `ttrpc+unix:///path`; `''` for none. */
  readonly address: string
  /** Of that service: 3 is containerd.task.v3, less is containerd.task.v2. */
  readonly version: number
}

/** What a sandboxer knows of a sandbox. */
export interface SandboxStatus {
  /** As the sandboxer gives it. */
  readonly id: string
  /** Whether the state is `SANDBOX_READY`. */
  readonly ready: boolean
  /** In the sandboxer's word; `SANDBOX_READY` and `SANDBOX_NOTREADY` are those that front ends know. */
  readonly state: string
  /** See {@link StartedSandbox}. */
  readonly pid: number
  /** For people; empty unless asked for. */
  readonly info: Readonly<Record<string, string>>
  /** Nanoseconds since the epoch; null when there is none. */
  readonly createdAtNs: bigint | null
  /** Nanoseconds since the epoch; null before its end. */
  readonly exitedAtNs: bigint | null
  /** See {@link StartedSandbox}. */
  readonly address: string
  /** See {@link StartedSandbox}. */
  readonly version: number
}

/** How a sandbox ended. */
export interface SandboxExit {
  /** 0-255; 128 + N for signal N. What is larger, or 255, is unknown. */
  readonly exitStatus: number
  /** Nanoseconds since the epoch; null when the sandboxer does not say. */
  readonly exitedAtNs: bigint | null
}

/** What programs in a sandbox run on. */
export interface SandboxPlatform {
  /** e.g. `linux`. */
  readonly os: string
  /** In Go's words, e.g. `amd64`. */
  readonly architecture: string
  /** e.g. `v8`; mostly `''`. */
  readonly variant: string
}

/** What a sandbox uses. */
export interface SandboxMetrics {
  /** When it was read, in nanoseconds since the epoch; null when the sandboxer does not say. */
  readonly atNs: bigint | null
  /** As it came; null when the sandboxer has none. */
  readonly data: EncodedMessage | null
  /** What is most asked for in it; null when it is no `io.containerd.cgroups.v1.Metrics` or `v2.Metrics`. */
  readonly usage: SandboxUsage | null
}

export interface SandboxUsage {
  /** Of cgroups. */
  readonly version: 1 | 2
  /** CPU time since the beginning, in nanoseconds. */
  readonly cpuNs: bigint
  /** In use now, with the page cache. */
  readonly memoryBytes: bigint
  /** Processes and threads. */
  readonly pids: bigint
}

/**
 * A sandboxer: the Controller service of containerd's sandbox API (containerd.services.sandbox.v1).
 *
 * A sandbox is created, then started; `wait` answers when it has ended, by itself or by `stop`; `shutdown` removes it,
 * also one that runs or was never started. It outlives its client, and mostly its sandboxer.
 *
 * Every call fails with a {@link CodedError}: with the sandboxer's own code and message, `Unavailable` when nobody answers at
 * the address, `DeadlineExceeded` when its time is over, `Canceled` when the connection was closed by `close`; or with the
 * reason of its signal. Calls may be made in any number at the same time.
 */
export interface SandboxerConnection extends Disposable, AsyncDisposable {
  /**
   * Makes a sandbox, and starts nothing.
   * @throws CodedError `AlreadyExists` for an id that is taken.
   */
  create(request: CreateRequest, call?: CallOptions): Promise<void>
  /** Starts a sandbox that was created. When that fails, `shutdown` removes what there is. */
  start(id: string, call?: CallOptions): Promise<StartedSandbox>
  platform(id: string, call?: CallOptions): Promise<SandboxPlatform>
  /**
   * Ends everything in the sandbox. One that has ended is success; so is, with most sandboxers, one that they do not know.
   * @param options.graceMs from the stop signal to SIGKILL, 0 by default; the sandboxer gets whole seconds. The call's own
   * time begins after it.
   */
  stop(id: string, options?: CallOptions & { readonly graceMs?: number }): Promise<void>
  /**
   * Resolves when the sandbox has ended: at once when it has ended before.
   * A lost connection says nothing about the sandbox: after `Unavailable`, ask for its status, and wait again.
   * @throws CodedError `NotFound` for a sandbox that the sandboxer does not know (any more).
   */
  wait(id: string, call?: CallOptions): Promise<SandboxExit>
  /**
   * @param options.verbose whether `info` is wanted.
   * @throws CodedError `NotFound` for a sandbox that the sandboxer does not know (any more).
   */
  status(id: string, options?: CallOptions & { readonly verbose?: boolean }): Promise<SandboxStatus>
  /** Removes a sandbox and all that its sandboxer holds for it. One that is gone is success, with most sandboxers. */
  shutdown(id: string, call?: CallOptions): Promise<void>
  metrics(id: string, call?: CallOptions): Promise<SandboxMetrics>
  /** Changes a sandbox. What a sandboxer cannot change it mostly ignores. */
  update(id: string, request: UpdateRequest, call?: CallOptions): Promise<void>
  /** Ends the calls that are under way; they fail with `Canceled`. Sandboxes stay as they are. */
  close(): void
}
