import type { Readable, Writable } from 'node:stream'
import type { ProcessIdentity } from '../host/process.ts'
import type { Resources } from '../oci/spec.ts'

/** The command-line program that makes containers (crun, runc, …), as one runtime handler uses it. */
export interface OciRuntime {
  readonly path: string
  /** Its state directory (`--root`). */
  readonly root: string
  /** Whether it hands cgroups to systemd (`--systemd-cgroup`). */
  readonly systemdCgroup: boolean
}

/** One container at the runtime: JSON, and all that it takes to find, stop and delete it, whatever was done of it. */
export interface ContainerRecord {
  readonly id: string
  readonly runtime: OciRuntime
  /** Holds config.json and the monitor's files; owned by whoever made the record. */
  readonly bundleDir: string
  /** As in the OCI spec: a path, or `slice:prefix:name` with systemd. */
  readonly cgroupsPath: string
  /** The ancestors of the cgroup that were not there before, the deepest first. */
  readonly ownedCgroupParents: readonly string[]
  /** Whether it is in a user namespace other than the node's. */
  readonly hasUserns?: boolean
  /** With systemd: how many processes in the slice the kernel had killed for want of memory before there was this container. */
  readonly sliceOomKills?: number
}

/** How a process ended. */
export interface ExitStatus {
  /** 0–255; 128 + N for signal N. 255 when unknown. */
  readonly code: number
  readonly atNs: bigint
  /** `Exited` was observed; `Unknown` and `NodeReboot` stand in for a status that nobody could observe. */
  readonly reason: 'Exited' | 'Unknown' | 'NodeReboot'
}

/** What becomes of the input and the output of a container's first process. */
export interface ContainerIo {
  /** A pseudo-terminal; its output is all `stdout` in the log. */
  readonly terminal: boolean
  /** Input may be attached; otherwise the process reads an empty one. */
  readonly stdin: boolean
  /** The input ends with the first who was attached to it. */
  readonly stdinOnce: boolean
  /** Absolute; `''` is no log. The monitor writes it in the CRI's format, and makes its directory where it is missing. */
  readonly logPath: string
  /** Of the log path, the directory that is the caller's to choose; below it no link is followed. `''` is none. */
  readonly logRoot?: string
  /** When the log would become longer, it is begun anew, and what it held is gone. 0 is no limit. */
  readonly logMaxBytes: number
}

/** A command in a running container. */
export interface ExecRequest {
  readonly command: readonly string[]
  /** 0 is none. */
  readonly timeoutMs: number
  /** What is kept of either stream; the command may print more. */
  readonly maxOutputBytes: number
}

export interface ExecOutput {
  /** 0–255; 128 + N for signal N. */
  readonly exitCode: number
  readonly stdout: Buffer
  readonly stderr: Buffer
}

/** Of a terminal, in characters; 0 is unknown. */
export interface TerminalSize {
  readonly width: number
  readonly height: number
}

/** Which streams a client wants of a process; the process has the others as well, and their content is dropped. */
export interface StreamsWanted {
  readonly stdin: boolean
  readonly stdout: boolean
  /** Never with a terminal, where all output is `stdout`. */
  readonly stderr: boolean
}

/** A command in a running container that a client talks to while it runs. */
export interface StreamedExecRequest extends StreamsWanted {
  readonly command: readonly string[]
  readonly terminal: boolean
}

/**
 * The streams of a process as one client has them, with their backpressure. Whoever got them disposes of them, which ends a
 * command with all its processes, and leaves a container's first process as it is.
 */
export interface ProcessStreams extends AsyncDisposable {
  /** Its end is that of the process's input. Null when the client does not want it, or the process has none. */
  readonly stdin: Writable | null
  /** Ends after the last byte. */
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  /** Does nothing without a terminal. */
  resize(size: TerminalSize): void
  /**
   * The exit code (0-255; 128 + N for signal N), when the process has ended; the outputs may then still hold some of what it
   * wrote. Rejected with a CodedError when the command could not be started or the streams have been given up.
   */
  readonly ended: Promise<number>
}

/** A client of a container's first process. */
export interface AttachRequest {
  readonly process: ProcessIdentity
  readonly io: Pick<ContainerIo, 'terminal' | 'stdin' | 'stdinOnce' | 'logPath'>
  readonly wanted: StreamsWanted
}

/** What an OCI runtime can do, whatever the kernel can. */
export interface RuntimeFeatures {
  /** Mounts that are read-only with all that is mounted below them (`rro`). */
  readonly recursiveReadOnlyMounts: boolean
  /** Mounts with an id mapping of their own. */
  readonly idMappedMounts: boolean
  readonly userNamespaces: boolean
  /** Checkpoints, with a criu on the node. */
  readonly checkpoint: boolean
}

/** Where the containers of a sandbox are run by somebody else: a containerd shim, or what a remote sandboxer offers. */
export interface TaskEndpoint {
  /** As bootstrapped or as the sandboxer gave it, e.g. `ttrpc+unix:///path`. */
  readonly address: string
  /** Of the Task service: 3 is containerd.task.v3; 0 and 2 are containerd.task.v2. */
  readonly version: number
}

/** One container at a Task service: JSON, and all that it takes to find, stop and delete it, whatever was done of it. */
export interface TaskRecord {
  readonly id: string
  readonly sandboxId: string
  readonly endpoint: TaskEndpoint
  /** Whether the sandboxer is to be told of tasks before they are made (`extensions.tasks`). */
  readonly announced: boolean
  /** Holds config.json and the FIFOs; owned by whoever made the record. */
  readonly bundleDir: string
  readonly cgroupsPath: string
  /** For the Create call; base64 of the protobuf in `value`. Null without any. */
  readonly options: { readonly typeUrl: string; readonly value: string } | null
  /** As of a {@link ContainerRecord}. */
  readonly sliceOomKills?: number
}

/** What runs a container: an OCI runtime under conmon, or a Task service. */
export type ExecutedRecord = ContainerRecord | TaskRecord

export function isTask(record: ExecutedRecord): record is TaskRecord {
  return 'endpoint' in record
}

/**
 * Runs containers. Nothing is remembered that is not in the record: every call works from it, also after a restart.
 * What the methods guarantee beyond this is told at {@link ConmonExecutor}, which has them all and more.
 *
 * `process` names the container's first process. One that a Task service runs may live where this node does not see it
 * (in a virtual machine): only the executor can tell whether it lives, and only the executor signals it.
 */
export interface Executor<R extends ExecutedRecord> {
  /** Takes note of a container that is on record: to be called for each before any is deleted. */
  adopt(record: R): void
  /** Makes sure that there can be a log, and tells the device that it is on; empty where none is wanted. */
  prepareLog(io: ContainerIo | undefined, signal: AbortSignal): Promise<string>
  /** Creates the container; its process exists and waits. The bundle directory holds config.json. */
  create(record: R, signal: AbortSignal, io?: ContainerIo, logReady?: Promise<string>): Promise<ProcessIdentity>
  /** Lets the process of a created container run its program. */
  start(record: R, signal: AbortSignal): Promise<void>
  /**
   * When the first process was let run its program, in nanoseconds since the epoch and as well as that is known; null while
   * it waits for that.
   */
  startedAtNs(record: R, process: ProcessIdentity, signal: AbortSignal): Promise<bigint | null>
  /** Sends a signal, once, to this very process; one that has ended is success. */
  kill(record: R, process: ProcessIdentity, signalName: NodeJS.Signals | number, signal: AbortSignal): Promise<void>
  /** Kills everything in the container, and returns when nothing of it runs. */
  killAll(record: R, signal: AbortSignal): Promise<void>
  /** Whether this very process lives. What cannot be found out is thrown: unknown is not dead. */
  isAlive(record: R, process: ProcessIdentity, signal: AbortSignal): Promise<boolean>
  /** The process of the container, if it lives; null when there is none (any more). */
  findProcess(record: R, signal: AbortSignal): Promise<ProcessIdentity | null>
  /** Resolves when the process has ended, also when it did so while nobody was looking. */
  wait(record: R, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus>
  /** The exit status that is known of a container whose process has ended, or null. */
  exitStatus(record: R, signal: AbortSignal): Promise<ExitStatus | null>
  /** Whether the container's first process was killed for want of memory. To be asked after its end, before `delete`. */
  oomKilled(record: R, exit: ExitStatus, signal: AbortSignal): Promise<boolean>
  execSync(record: R, request: ExecRequest, signal: AbortSignal): Promise<ExecOutput>
  exec(record: R, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams>
  /** Kills what an earlier daemon has left of commands in a running container. To be called before the first exec in it. */
  killLeftExecs(record: R, process: ProcessIdentity, signal: AbortSignal): Promise<void>
  attach(record: R, request: AttachRequest, signal: AbortSignal): Promise<ProcessStreams>
  reopenLog(record: R, logPath: string, signal: AbortSignal): Promise<void>
  /** Changes the limits of the container; what is not given stays. */
  update(record: R, resources: Resources, signal: AbortSignal): Promise<void>
  /** Ends whatever runs of the container and removes all of it but the bundle directory. Nothing there is success. */
  delete(record: R, signal: AbortSignal): Promise<void>
}
