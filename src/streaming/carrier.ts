import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { Logger } from '../telemetry/logger.ts'
import type { SpdySession } from './spdy/types.ts'

/** What a connection that was upgraded has, whatever it speaks. */
export type Carrier = Pick<SpdySession, 'ping' | 'lastActivityMs' | 'close' | 'destroy' | 'signal'>

/**
 * Bytes in numbered channels over one connection: what Kubernetes speaks over WebSocket. There is no flow control for a
 * single channel: one that is not read holds up all others from the client.
 */
export interface ChannelSession extends Carrier {
  /**
   * What the client sends in a channel. To be asked for before the next turn of the event loop: what comes in channels
   * that nobody reads is dropped. Ends when the client closes the channel (v5), fails when the connection ends before that.
   */
  reader(channel: number): Readable
  /** To the client, a message for every write. Its end sends nothing: the client sees the end of the connection. */
  writer(channel: number): Writable
}

/** A session that was opened for port-forward, and what it takes to serve it. */
export interface PortForward {
  readonly sandboxId: string
  /** Those of the URL. Clients over SPDY say with each stream which port they want, and most of them ask for a URL without. */
  readonly ports: readonly number[]
  /** Connects to a port in the pod. The caller owns the socket. @throws CodedError `Unavailable` when nobody listens there. */
  connect(port: number, signal: AbortSignal): Promise<Socket>
  /** How long a client may take from the first stream of a pair to the second. */
  readonly streamCreationTimeoutMs: number
  readonly logger: Logger
}
