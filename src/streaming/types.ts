import type { Readable, Writable } from 'node:stream'
import type { Containers } from '../container/types.ts'
import type { StreamedExecRequest, StreamsWanted, TerminalSize } from '../executor/types.ts'
import type { Sandboxes } from '../sandbox/types.ts'
import type { Logger } from '../telemetry/logger.ts'

/** What the client of a session was given its URL for. */
export type StreamRequest =
  | { readonly kind: 'exec'; readonly containerId: string; readonly request: StreamedExecRequest }
  | { readonly kind: 'attach'; readonly containerId: string; readonly request: CommandRequest }
  | { readonly kind: 'portforward'; readonly sandboxId: string; readonly ports: readonly number[] }

/** What a remote command, exec or attach, was asked for. `terminal`: the client tells the size of its own. */
export type CommandRequest = StreamsWanted & { readonly terminal: boolean }

/** Those who do what the clients ask for. */
export interface StreamingDeps {
  readonly containers: Pick<Containers, 'exec' | 'attach'>
  readonly sandboxes: Pick<Sandboxes, 'connect'>
  readonly logger: Logger
}

/** How a remote command ended: an exit code, or why there is none. */
export type Outcome = { readonly exitCode: number } | { readonly error: unknown }

/** The client's half of a remote command, whatever carries it. Its streams have backpressure. */
export interface RemoteCommand {
  /** What the client types; ends when the client closes it. Null when it was not asked for. */
  readonly stdin: Readable | null
  readonly stdout: Writable | null
  readonly stderr: Writable | null
  /** Calls back for every size that the client's terminal takes on, with the last one at once if there was one. */
  onResize(listener: (size: TerminalSize) => void): void
  /** Tells the client how it ended, after all output, and closes. */
  finish(outcome: Outcome): Promise<void>
  /** Aborted as soon as the client is gone, or has been idle for too long. */
  readonly signal: AbortSignal
}
