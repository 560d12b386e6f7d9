import type { Finding } from '../doctor/doctor.ts'

/**
 * What the admin server speaks: HTTP/1.1 on a Unix socket, JSON both ways. Times are ISO 8601 in UTC, durations are
 * milliseconds, sizes are bytes. An error is `{ code, message }` with the gRPC name of the code, at the HTTP status that
 * google.rpc.Code maps it to. What goes on (`/events`, `/images/pull`) is one JSON object a line (application/x-ndjson); when
 * it fails later than at once, its last line is `{ error: { code, message } }`. Members may be added, none is taken away.
 *
 *   GET  /v1/status                 DaemonStatus
 *   GET  /v1/pods                   PodSummary[]
 *   GET  /v1/inspect/ID             Inspection: a sandbox or container, by its id, the beginning of that, or its name;
 *                                   a sandbox also by the name of its pod, or `NAMESPACE/NAME`
 *   GET  /v1/ledger                 LedgerLine[]
 *   DELETE /v1/ledger/ID/SEQ        Forgotten: gives up an entry whose release is owed, and goes on with the others
 *   GET  /v1/sandboxers             SandboxerStatus[]
 *   GET  /v1/usage                  PodUsage[]
 *   GET  /v1/events                 Happening, one a line, until the client leaves
 *   GET  /v1/log-levels             Record<room, level>; '' is the level of all
 *   PUT  /v1/log-levels             the same, of those to change; an empty level takes one back
 *   POST /v1/reload                 Reload
 *   POST /v1/doctor?fix=BOOL        Finding[]
 *   POST /v1/images/pull            { image } in, PullProgress out, one a line
 *   GET  /metrics                   Prometheus text
 */
export interface DaemonStatus {
  readonly version: string
  readonly pid: number
  readonly startedAt: string
  /** The file, or null for the embedded defaults. */
  readonly config: string | null
  readonly sockets: {
    readonly cri: string
    readonly sandboxer: string
    readonly admin: string
    readonly streaming: string
  }
  readonly schemaVersion: number
  readonly bootId: string
  /** Whether every sandbox and container of an earlier daemon has been looked at. */
  readonly recovered: boolean
  /** As the CRI tells: `{ RuntimeReady: true, NetworkReady: 'cni: ...' }`; a text says why not. */
  readonly conditions: Readonly<Record<string, true | string>>
  /** Sandboxes and containers by their state. */
  readonly sandboxes: Readonly<Record<string, number>>
  readonly containers: Readonly<Record<string, number>>
  /** How many owe the release of something. */
  readonly owed: number
  readonly running: readonly RunningOperation[]
}

/** An operation under way. */
export interface RunningOperation {
  readonly id: string
  readonly name: string
  /** The steps it is at; empty when it waits for another operation on the same id. */
  readonly steps: readonly string[]
  readonly sinceMs: number
}

export interface PodSummary {
  readonly id: string
  readonly name: string
  readonly namespace: string
  /** As the daemon has it, or as it was recorded last where there is no daemon. */
  readonly state: string
  /** Why it is not to be trusted; `''` when nothing is wrong. */
  readonly quarantined: string
  /** Why RunPodSandbox failed, of one of which something could not be taken back yet; `''` otherwise. */
  readonly failure: string
  readonly createdAt: string
  readonly handler: string
  /** The controller, and which of our two front ends made it: `cri` or `sandboxer`. */
  readonly sandboxer: string
  readonly frontEnd: string
  readonly pid: number | null
  readonly netns: string
  readonly ips: readonly string[]
  readonly containers: number
  readonly runMs: number | null
  readonly steps: readonly { readonly name: string; readonly startMs: number; readonly durationMs: number }[]
}

/** Everything that is known of one sandbox or container, side by side; what is not there is null. */
export interface Inspection {
  readonly id: string
  readonly kind: 'sandbox' | 'container'
  readonly name: string
  /** Of {@link PodSummary.state}. */
  readonly state: string
  /** The row as it is stored, and whether its seal holds. */
  readonly row: { readonly isSealed: boolean; readonly columns: Readonly<Record<string, unknown>> } | null
  /** The checkpoint file, and whether its hash and seal hold. */
  readonly checkpoint: { readonly path: string; readonly problem: string | null; readonly content: unknown } | null
  readonly ledger: readonly LedgerLine[]
  /** The result of each CNI attachment. */
  readonly network: unknown
  /** What the runtime, the shim or the remote sandboxer says now; without a daemon only whether its process runs. */
  readonly runtime: unknown
  /** Everything that does not hold, or does not fit. */
  readonly problems: readonly string[]
}

export interface LedgerLine {
  readonly ownerId: string
  readonly seq: number
  readonly kind: string
  readonly state: string
  /** For people: a path, an address, a pid. */
  readonly subject: string
  readonly bootId: string
  /** Why its release failed last; null when it was not tried by this daemon, or without one. */
  readonly problem: string | null
}

/** What became of an entry that was given up. */
export interface Forgotten {
  /** As it was. */
  readonly entry: LedgerLine
  /** What its sandbox or container has on record still, now that the rest was tried again; null while it is only shown. */
  readonly left: readonly LedgerLine[] | null
}

export interface SandboxerStatus {
  readonly name: string
  /** Null for those that are part of the daemon. */
  readonly address: string | null
  readonly reachable: boolean
  /** Of one Platform call; null when there was no answer. */
  readonly latencyMs: number | null
  readonly problem: string | null
  readonly sandboxes: number
}

export interface PodUsage {
  readonly id: string
  readonly name: string
  readonly namespace: string
  /** Of one core: 1.5 is one and a half. Null before there are two readings. */
  readonly cpuCores: number | null
  /** The working set. */
  readonly memoryBytes: number | null
  readonly pids: number | null
  /** What went through its network so far, and when that was counted; null on the node's network. */
  readonly network: { readonly at: string; readonly rxBytes: number; readonly txBytes: number } | null
}

/** Something has happened to a sandbox or container, or to what it owns. */
export interface Happening {
  readonly at: string
  readonly type: 'CREATED' | 'STARTED' | 'STOPPED' | 'DELETED'
  /** Of the container, or of the sandbox: then both ids are the same. */
  readonly id: string
  readonly sandboxId: string
  /** The names that their configurations give: `nginx`, and `web-1` of `default`; `''` where they are gone. */
  readonly name: string
  readonly pod: { readonly name: string; readonly namespace: string }
}

/** What a reload (SIGHUP) did: keys of the configuration. */
export interface Reload {
  readonly changed: readonly string[]
  /** These differ from what runs, and need a restart. */
  readonly needRestart: readonly string[]
}

export interface PullProgress {
  readonly stage: 'resolve' | 'download' | 'store' | 'done'
  readonly doneBytes: number
  /** Null while it is not known. */
  readonly totalBytes: number | null
  /** With `done`. */
  readonly imageRef?: string
  /** The last line when it failed. */
  readonly error?: { readonly code: string; readonly message: string }
}

export type { Finding }
