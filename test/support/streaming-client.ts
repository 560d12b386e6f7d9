import { Duplex, Readable, type Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { SpdySession, SpdyStream } from '../../src/streaming/spdy/types.ts'
import { ChannelClient } from './streaming-channels.ts'
import {
  type NegotiatedSession,
  openSpdy,
  openTunnel,
  openWebSocket,
  type UpgradeOptions,
} from './streaming-upgrade.ts'

/** How a command ended: metav1.Status, from v4 on. */
export interface Status {
  readonly status?: 'Success' | 'Failure'
  readonly message?: string
  readonly reason?: string
  readonly code?: number
  readonly details?: { readonly causes?: readonly { readonly reason?: string; readonly message?: string }[] }
}

export interface RemoteCommandOptions extends UpgradeOptions {
  readonly transport: 'spdy' | 'websocket'
  /** Which streams to open: those of the request that the URL is for. */
  readonly stdin?: boolean
  readonly stdout?: boolean
  readonly stderr?: boolean
  /** Whether to open a stream for the sizes of a terminal. */
  readonly tty?: boolean
  /** One sub-protocol instead of all that the transport has. */
  readonly protocol?: string
}

/** The client of an exec or an attach. */
export interface RemoteCommandClient {
  /** What the server chose. */
  readonly protocol: string
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  readonly stderr: Readable | null
  resize(size: { readonly width: number; readonly height: number }): void
  /** How it ended; before v4 as text, `''` for success. Rejected when the connection ends without a word about it. */
  readonly status: Promise<Status | string>
  /** Ends the connection in good order. */
  close(): Promise<void>
  /** Vanishes. */
  destroy(): void
  /** Over SPDY only. */
  readonly session: SpdySession | null
}

export interface PortForwardOptions extends UpgradeOptions {
  readonly transport: 'spdy' | 'tunnel' | 'websocket'
  /** Over WebSocket: the ports that the URL is for, in their order; each is good for one connection. */
  readonly ports?: readonly number[]
}

/** One connection to a port of a pod. */
export interface ForwardedConnection {
  readonly data: Duplex
  /** What went wrong, told when it is over; `''` for nothing. Rejected when the session ends before. */
  readonly error: Promise<string>
}

export interface PortForwardClient {
  readonly protocol: string
  /** Any number of connections; over WebSocket one for each port of the URL. */
  connect(port: number): ForwardedConnection
  close(): Promise<void>
  destroy(): void
  /** Over SPDY, also in a tunnel. */
  readonly session: SpdySession | null
}

/** @throws UpgradeRefused */
export async function openRemoteCommand(url: string, options: RemoteCommandOptions): Promise<RemoteCommandClient> {
  if (options.transport === 'websocket') {
    const protocols = options.protocol ? [options.protocol] : ['v5.channel.k8s.io', 'v4.channel.k8s.io']
    return channelCommand(new ChannelClient(await openWebSocket(url, protocols, options)), options)
  }
  const all = ['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']
  return spdyCommand(await openSpdy(url, options.protocol ? [options.protocol] : all, options), options)
}

/** @throws UpgradeRefused */
export async function openPortForward(url: string, options: PortForwardOptions): Promise<PortForwardClient> {
  if (options.transport === 'websocket') {
    const socket = await openWebSocket(url, ['v4.channel.k8s.io'], options)
    return channelPortForward(new ChannelClient(socket), options.ports ?? [])
  }
  const open = options.transport === 'tunnel' ? openTunnel : openSpdy
  return spdyPortForward(await open(url, ['portforward.k8s.io'], options))
}

/** The exit code that a status stands for. @throws Error when the command had none. */
export function exitCode(status: Status | string): number {
  if (typeof status === 'string') {
    if (status === '') return 0
    throw new Error(status)
  }
  if (status.status === 'Success') return 0
  const cause = status.details?.causes?.find(({ reason }) => reason === 'ExitCode')
  if (status.reason === 'NonZeroExitCode' && cause?.message) return Number(cause.message)
  throw new Error(status.message ?? JSON.stringify(status))
}

function spdyCommand(negotiated: NegotiatedSession, options: RemoteCommandOptions): RemoteCommandClient {
  const { session, protocol } = negotiated
  const open = (streamType: string, wanted?: boolean): SpdyStream | null =>
    wanted ? session.open({ streamtype: streamType }) : null
  const errors = session.open({ streamtype: 'error' })
  const stdin = open('stdin', options.stdin)
  const stdout = open('stdout', options.stdout)
  const stderr = open('stderr', options.stderr)
  const sizes = open('resize', options.tty && protocol !== 'v2.channel.k8s.io' && protocol !== 'channel.k8s.io')
  return {
    protocol,
    stdin,
    stdout,
    stderr,
    resize: (size) => void sizes?.write(sizeMessage(size)),
    status: handled(lastWords(errors).then((told) => parseStatus(protocol, told))),
    close: () => session.close(),
    destroy: () => session.destroy(),
    session,
  }
}

function channelCommand(client: ChannelClient, options: RemoteCommandOptions): RemoteCommandClient {
  const { protocol } = client.socket
  const errors = client.reader(3)
  const sizes = client.writer(4)
  return {
    protocol,
    stdin: options.stdin ? client.writer(0) : null,
    stdout: options.stdout ? client.reader(1) : null,
    stderr: options.stderr ? client.reader(2) : null,
    resize: (size) => void sizes.write(sizeMessage(size)),
    status: handled(text(errors).then((told) => parseStatus(protocol, told))),
    close: () => client.close(),
    destroy: () => client.socket.terminate(),
    session: null,
  }
}

function sizeMessage(size: { readonly width: number; readonly height: number }): string {
  return `${JSON.stringify({ Width: size.width, Height: size.height })}\n`
}

function parseStatus(protocol: string, told: string): Status | string {
  if (!/^v[45]\./.test(protocol)) return told
  if (told === '') throw new Error('the connection ended without a status')
  return JSON.parse(told) as Status
}

function spdyPortForward({ session, protocol }: NegotiatedSession): PortForwardClient {
  let requests = 0
  return {
    protocol,
    connect: (port) => {
      const headers = { port: String(port), requestid: String(requests++) }
      const errors = session.open({ streamtype: 'error', ...headers })
      errors.end()
      return { data: session.open({ streamtype: 'data', ...headers }), error: handled(lastWords(errors)) }
    },
    close: () => session.close(),
    destroy: () => session.destroy(),
    session,
  }
}

function channelPortForward(client: ChannelClient, ports: readonly number[]): PortForwardClient {
  const connections = ports.map((port, index) => ({
    port,
    data: Duplex.from({
      readable: Readable.from(withoutPort(client.reader(2 * index), port), { objectMode: false }),
      writable: client.writer(2 * index),
    }),
    error: handled(text(Readable.from(withoutPort(client.reader(2 * index + 1), port), { objectMode: false }))),
  }))
  return {
    protocol: client.socket.protocol,
    connect: (port) => {
      const index = connections.findIndex((connection) => connection.port === port)
      const [connection] = connections.splice(index, index < 0 ? 0 : 1)
      if (!connection) throw new Error(`the session has no connection to port ${port} left`)
      return connection
    },
    close: () => client.close(),
    destroy: () => client.socket.terminate(),
    session: null,
  }
}

/** What follows the port, in two bytes, that a channel begins with. */
async function* withoutPort(channel: Readable, port: number): AsyncGenerator<Buffer> {
  let head: Buffer | null = Buffer.alloc(0)
  for await (const piece of channel as AsyncIterable<Buffer>) {
    if (head === null) {
      yield piece
      continue
    }
    head = Buffer.concat([head, piece])
    if (head.length < 2) continue
    if (head.readUInt16LE() !== port) throw new Error(`port ${head.readUInt16LE()} instead of ${port}`)
    if (head.length > 2) yield head.subarray(2)
    head = null
  }
}

/** All that comes. Servers that are written in Go reset what they have said all on. */
function lastWords(stream: SpdyStream): Promise<string> {
  let told = ''
  stream.on('data', (data: Buffer) => {
    told += data.toString()
  })
  return new Promise((resolve, reject) => {
    stream.on('end', () => resolve(told))
    stream.on('error', (error) => (error.message.includes('reset by the peer') ? resolve(told) : reject(error)))
  })
}

/** Nobody has to wait for it. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}
