import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Carrier, PortForward } from './carrier.ts'
import { ChannelCommand } from './command/channel-command.ts'
import { ChannelConnection } from './websocket/channel-connection.ts'
import { type Agreement, SPDY_COMMANDS, TUNNEL, WEBSOCKET_CHANNELS } from './handshake.ts'
import { forwardChannels } from './port-forward/channels.ts'
import { forwardStreams } from './port-forward/streams.ts'
import { serveCommand } from './command/serve-command.ts'
import { watchSession } from './session-watch.ts'
import { SpdyConnection } from './spdy/connection.ts'
import { COMMAND_STREAMS, SpdyCommand } from './command/spdy-command.ts'
import type { StreamingDeps, StreamRequest } from './types.ts'
import { webSocketDuplex } from './websocket/web-socket-duplex.ts'

export interface SessionsOptions {
  readonly maxSessions: number
  readonly idleTimeoutMs: number
  readonly streamCreationTimeoutMs: number
  readonly pingIntervalMs: number
}

/** A request whose connection is to become a session. */
export interface Upgrade {
  readonly request: IncomingMessage
  readonly socket: Socket
  readonly head: Buffer
}

/** A message as a whole is held in memory; clients of Kubernetes send 32 KiB. */
const MAX_MESSAGE_BYTES = 1024 * 1024
/** What is kept of a client's data that nobody reads at the moment. */
const BUFFERED_BYTES = 256 * 1024
/** Two for each connection through the forwarded ports, with which browsers are generous. */
const FORWARD_STREAMS = 1000
const KEEP_ALIVE_MS = 30_000

/** The sessions under way, each on a connection of its own. Whatever happens in one concerns no other. */
export class Sessions implements AsyncDisposable {
  readonly #options: SessionsOptions
  readonly #deps: StreamingDeps
  readonly #running = new Set<Promise<void>>()
  readonly #closing = new AbortController()

  constructor(options: SessionsOptions, deps: StreamingDeps) {
    this.#options = options
    this.#deps = deps
  }

  get size(): number {
    return this.#running.size
  }

  get areFull(): boolean {
    return this.#running.size >= this.#options.maxSessions
  }

  /** Makes a session of a connection, and serves it to its end. */
  open(upgrade: Upgrade, stream: StreamRequest, agreement: Agreement): void {
    const running = this.#serve(upgrade, stream, agreement).finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  /** Tells all clients that it is over, and waits until nothing is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CodedError('Unavailable', 'keep the session: the server is shut down'))
    await Promise.all(this.#running)
  }

  /** Never fails. */
  async #serve(upgrade: Upgrade, stream: StreamRequest, agreement: Agreement): Promise<void> {
    const { socket } = upgrade
    const begunMs = performance.now()
    const subject = stream.kind === 'portforward' ? { sandbox: stream.sandboxId } : { container: stream.containerId }
    const logger = this.#deps.logger.child({ kind: stream.kind, ...subject, ...agreement })
    logger.debug('streaming session opened')
    try {
      socket.setTimeout(0).setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS)
      if (agreement.carrier === 'spdy') await this.#serveSpdy(upgrade, stream, agreement.protocol)
      else await this.#serveWebSocket(upgrade, stream, agreement.protocol)
    } catch (error) {
      logger.debug({ error: errorMessage(error) }, 'streaming session broke off')
    } finally {
      socket.destroy()
    }
    logger.debug({ durationMs: Math.round(performance.now() - begunMs) }, 'streaming session ended')
  }

  async #serveSpdy({ socket, head }: Upgrade, stream: StreamRequest, protocol: string): Promise<void> {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
        `X-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
    )
    const version = SPDY_COMMANDS[protocol]
    const maxStreams = version ? COMMAND_STREAMS : FORWARD_STREAMS
    const session = new SpdyConnection(socket, head, { ...SPDY, maxStreams })
    if (stream.kind === 'portforward') return this.#forward(session, stream, forwardStreams)
    if (!version) throw new CodedError('Internal', `serve ${stream.kind}: it has no protocol ${protocol}`)
    await this.#watched(session, async (signal) => {
      const { streamCreationTimeoutMs } = this.#options
      const options = { ...version, request: stream.request, streamCreationTimeoutMs, signal }
      await serveCommand(await SpdyCommand.open(session, options), stream, this.#deps)
    })
  }

  async #serveWebSocket(upgrade: Upgrade, stream: StreamRequest, protocol: string): Promise<void> {
    const socket = accept(upgrade, protocol)
    if (stream.kind === 'portforward' && protocol === TUNNEL) {
      const options = { ...SPDY, maxStreams: FORWARD_STREAMS }
      const tunnel = new SpdyConnection(webSocketDuplex(socket), Buffer.alloc(0), options)
      return this.#forward(tunnel, stream, forwardStreams)
    }
    const version = WEBSOCKET_CHANNELS[protocol]
    if (!version) throw new CodedError('Internal', `serve ${stream.kind}: it has no protocol ${protocol}`)
    const session = new ChannelConnection(socket, version)
    if (stream.kind === 'portforward') return this.#forward(session, stream, forwardChannels)
    await this.#watched(session, async (signal) => {
      const command = new ChannelCommand(session, { request: stream.request, status: version.status, signal })
      await serveCommand(command, stream, this.#deps)
    })
  }

  async #forward<T extends Carrier>(
    session: T,
    { sandboxId, ports }: Extract<StreamRequest, { kind: 'portforward' }>,
    serve: (session: T, forward: PortForward) => Promise<void>,
  ): Promise<void> {
    const { sandboxes, logger } = this.#deps
    await this.#watched(session, async (signal) => {
      // Who serves it looks at the session's own signal.
      signal.addEventListener('abort', () => session.destroy(signal.reason as Error), { once: true })
      await serve(session, {
        sandboxId,
        ports,
        connect: (port, forPort) => sandboxes.connect(sandboxId, port, forPort),
        streamCreationTimeoutMs: this.#options.streamCreationTimeoutMs,
        logger,
      })
    })
  }

  async #watched(carrier: Carrier, serve: (signal: AbortSignal) => Promise<void>): Promise<void> {
    using watch = watchSession(carrier, this.#options, this.#closing.signal)
    try {
      await serve(watch.signal)
    } finally {
      carrier.destroy()
    }
  }
}

const SPDY = { role: 'server', maxBufferedBytes: BUFFERED_BYTES } as const

/** Answers the handshake. @throws CodedError `InvalidArgument` when it is none; the client was told then. */
function accept({ request, socket, head }: Upgrade, protocol: string): WebSocket {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
  })
  // For ws a protocol is a token (RFC 6455), which the name of the tunnel is not: a slash is in it.
  delete request.headers['sec-websocket-protocol']
  if (protocol !== '') server.on('headers', (lines) => lines.push(`Sec-WebSocket-Protocol: ${protocol}`))
  let accepted: WebSocket | undefined
  // Called back before it returns, and with that before the first message.
  server.handleUpgrade(request, socket, head, (webSocket) => {
    accepted = webSocket
  })
  if (!accepted) throw new CodedError('InvalidArgument', 'open a WebSocket: the handshake is not valid')
  return accepted
}
