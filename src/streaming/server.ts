import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, Server as TlsServer } from 'node:https'
import { type AddressInfo, isIPv6, type Socket } from 'node:net'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { StreamedExecRequest } from '../executor/types.ts'
import { NOT_FOUND, readRequest, type Refusal, refusal, refuse } from './handshake.ts'
import { PendingConnections } from './pending-connections.ts'
import { Sessions } from './sessions.ts'
import { Tokens } from './tokens.ts'
import type { CommandRequest, StreamingDeps, StreamRequest } from './types.ts'

/** How long a URL is good for. */
const TOKEN_LIFETIME_MS = 60_000
/** What a connection may take to say what it wants; and how often that is looked at. */
const REQUEST_TIMEOUT_MS = 10_000
const CHECK_INTERVAL_MS = 2000
const MAX_HEADER_BYTES = 16 * 1024
/** More connections that have not become sessions push out the oldest. */
const MAX_PENDING_CONNECTIONS = 256
const PING_INTERVAL_MS = 15_000

export interface StreamingServerOptions {
  /** An IP address. */
  readonly address: string
  /** 0 is any that is free. */
  readonly port: number
  /** PEM files; `''` is none, and without a certificate there is no TLS. */
  readonly tlsCertFile: string
  readonly tlsKeyFile: string
  readonly tlsClientCaFile: string
  /** What URLs begin with; `''` is made of address and port. */
  readonly baseUrl: string
  readonly idleTimeoutMs: number
  readonly streamCreationTimeoutMs: number
  readonly maxSessions: number
  /** URLs that wait for their client. */
  readonly maxPending: number
  /** Default 15 s. */
  readonly pingIntervalMs?: number
}

/**
 * The HTTP server where exec, attach and port-forward take place, over SPDY/3.1 or WebSocket. Who has a URL may use it: it
 * holds 256 random bits, and is good for a minute and for one session. Browsers are refused.
 */
export class StreamingServer implements AsyncDisposable {
  readonly #options: StreamingServerOptions
  readonly #deps: StreamingDeps
  readonly #tokens: Tokens
  readonly #connections = new PendingConnections(MAX_PENDING_CONNECTIONS)
  readonly #sessions: Sessions
  #server: Server | undefined
  #baseUrl: string

  constructor(options: StreamingServerOptions, deps: StreamingDeps) {
    this.#options = options
    this.#deps = deps
    this.#baseUrl = options.baseUrl.replace(/\/$/, '')
    this.#tokens = new Tokens({ maxPending: options.maxPending, lifetimeMs: TOKEN_LIFETIME_MS })
    this.#sessions = new Sessions({ pingIntervalMs: PING_INTERVAL_MS, ...options }, deps)
  }

  /** @throws CodedError `Unavailable` when the address cannot be listened on, `FailedPrecondition` for unusable TLS files. */
  async listen(): Promise<void> {
    const { address, port } = this.#options
    const server = await this.#createServer()
    server.on('connection', (socket: Socket) => this.#connections.add(socket))
    server.on('request', (request, response) => this.#onRequest(request, response))
    server.on('upgrade', (request, socket: Socket, head) => this.#onUpgrade(request, socket, head))
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(new CodedError('Unavailable', `listen on ${address} port ${port}: ${error.message}`, { cause: error }))
      })
      server.listen({ host: address, port }, resolve)
    })
    server.on('error', (error) => this.#deps.logger.error({ err: error }, 'the streaming server failed'))
    this.#server = server
    const host = isIPv6(address) ? `[${address}]` : address
    const scheme = this.#options.tlsCertFile === '' ? 'http' : 'https'
    this.#baseUrl ||= `${scheme}://${host}:${(server.address() as AddressInfo).port}`
  }

  /**
   * Reads the TLS files again, for connections from now on.
   * @throws CodedError `FailedPrecondition` for unusable ones; those that were read before stay in use.
   */
  async reloadTls(): Promise<void> {
    if (!(this.#server instanceof TlsServer)) return
    const tls = await this.#readTls()
    try {
      this.#server.setSecureContext(tls)
    } catch (error) {
      throw unusableTls(error)
    }
  }

  /** How many sessions there are. */
  get sessions(): number {
    return this.#sessions.size
  }

  /** What the URLs begin with; known once it listens. */
  get baseUrl(): string {
    return this.#baseUrl
  }

  /** @throws CodedError `ResourceExhausted` when too many URLs wait for their client. */
  execUrl(containerId: string, request: StreamedExecRequest): string {
    return this.#url({ kind: 'exec', containerId, request })
  }

  /** @throws CodedError `ResourceExhausted` when too many URLs wait for their client. */
  attachUrl(containerId: string, request: CommandRequest): string {
    return this.#url({ kind: 'attach', containerId, request })
  }

  /** @throws CodedError `ResourceExhausted` when too many URLs wait for their client. */
  portForwardUrl(sandboxId: string, ports: readonly number[]): string {
    return this.#url({ kind: 'portforward', sandboxId, ports })
  }

  /** Ends all sessions at once, and returns when nothing of them is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server) this.#server.close(() => resolve())
      else resolve()
    })
    this.#connections.destroyAll()
    await Promise.all([closed, this.#sessions[Symbol.asyncDispose]()])
  }

  async #createServer(): Promise<Server> {
    const limits = {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    }
    if (this.#options.tlsCertFile === '') return createServer(limits)
    const tls = await this.#readTls()
    try {
      const requestCert = this.#options.tlsClientCaFile !== ''
      return createTlsServer({ ...limits, handshakeTimeout: REQUEST_TIMEOUT_MS, ...tls, requestCert })
    } catch (error) {
      throw unusableTls(error)
    }
  }

  async #readTls(): Promise<{ cert: Buffer; key: Buffer; ca?: Buffer }> {
    const { tlsCertFile, tlsKeyFile, tlsClientCaFile } = this.#options
    try {
      const [cert, key] = await Promise.all([readFile(tlsCertFile), readFile(tlsKeyFile)])
      return { cert, key, ...(tlsClientCaFile === '' ? {} : { ca: await readFile(tlsClientCaFile) }) }
    } catch (error) {
      throw unusableTls(error)
    }
  }

  #url(request: StreamRequest): string {
    return `${this.#baseUrl}/${request.kind}/${this.#tokens.add(request)}`
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const read = readRequest(request)
    const { status, message } = 'status' in read ? read : NOT_FOUND
    response.writeHead(status, { Connection: 'close', 'Content-Type': 'text/plain; charset=utf-8' })
    response.end(`${message}\n`)
  }

  #onUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    // What goes wrong with a connection shows in its end.
    socket.on('error', (error) =>
      this.#deps.logger.debug({ error: errorMessage(error) }, 'streaming connection failed'),
    )
    const refused = this.#open(request, socket, head)
    if (!refused) return
    this.#deps.logger.debug({ status: refused.status, error: refused.message }, 'streaming request refused')
    refuse(socket, refused)
  }

  /** The token is taken last: one whose request cannot be served is not used up. */
  #open(request: IncomingMessage, socket: Socket, head: Buffer): Refusal | undefined {
    const read = readRequest(request)
    if ('status' in read) return read
    if (this.#sessions.areFull) return refusal(503, 'there are too many sessions', { 'Retry-After': '5' })
    const stream = this.#tokens.take(read.kind, read.token)
    if (!stream) return NOT_FOUND
    this.#connections.delete(socket)
    this.#sessions.open({ request, socket, head }, stream, read.agreement)
    return undefined
  }
}

function unusableTls(error: unknown): CodedError {
  return new CodedError('FailedPrecondition', `use the TLS files of streaming: ${errorMessage(error)}`, {
    cause: error,
  })
}
