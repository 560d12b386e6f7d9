import type { Readable, Writable } from 'node:stream'
import type { ProcessIdentity } from '../host/process.ts'

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
