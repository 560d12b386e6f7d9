import type { Duplex } from 'node:stream'

/** Names in lower case, as SPDY/3.1 demands. */
export type SpdyHeaders = Readonly<Record<string, string>>

/**
 * One stream of a session. Reading it slowly holds back the peer, `end()` half-closes it, and `destroy()` resets it. It
 * fails with a CodedError `Unavailable` when the peer resets it or the session ends before it.
 */
export interface SpdyStream extends Duplex {
  readonly id: number
  /** What the peer opened it with. */
  readonly headers: SpdyHeaders
  /** Answers a stream that the peer opened (SYN_REPLY); once, before anything is written. */
  reply(headers?: SpdyHeaders): void
}

export interface SpdyOptions {
  /** Who opened the connection: a client's streams have odd numbers. */
  readonly role: 'client' | 'server'
  /** What the peer may have open at a time; more are refused (REFUSED_STREAM). */
  readonly maxStreams: number
  /** What is kept for streams that are not being read, together, before the connection is not read any more. */
  readonly maxBufferedBytes: number
  /** How long `close()` waits for the peer to take what was written, and to leave as well. */
  readonly closeTimeoutMs?: number
}

/** One connection that speaks SPDY/3.1, without flow control of its own (see docs/adr). */
export interface SpdySession {
  /** Calls back for each stream that the peer opens. To be set before the next turn of the event loop. */
  onStream(listener: (stream: SpdyStream) => void): void
  /** Opens a stream; what is written waits for the peer's answer. @throws CodedError `Unavailable` when the session has ended. */
  open(headers: SpdyHeaders): SpdyStream
  /** Asks whether the peer is still there: without it, one that vanished shows only in a write. */
  ping(): void
  /** When payload passed last, in either direction, by `performance.now()`. */
  readonly lastActivityMs: number
  /** Says good-bye (GOAWAY), lets out what is written, and closes the connection. */
  close(): Promise<void>
  /** Ends it at once. */
  destroy(error?: Error): void
  /** Aborted when the connection has ended, with why as the reason. */
  readonly signal: AbortSignal
}
