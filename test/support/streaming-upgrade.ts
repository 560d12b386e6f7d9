import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import type { Socket } from 'node:net'
import { createWebSocketStream, WebSocket } from 'ws'
import { SpdyConnection } from '../../src/streaming/spdy/connection.ts'
import type { SpdySession } from '../../src/streaming/spdy/types.ts'

/** What a client may need for a server with TLS. */
export type ClientTls = Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized'>

/** What is in the way of every connection. */
export interface UpgradeOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly tls?: ClientTls
  /** A connection to the server: where its address alone does not lead, since it is in another network namespace. */
  readonly socket?: Socket
}

/** The server answered, but not with an upgrade. */
class UpgradeRefused extends Error {
  readonly statusCode: number
  readonly body: string

  constructor(statusCode: number, body: string) {
    super(`upgrade refused: ${statusCode} ${body}`)
    this.statusCode = statusCode
    this.body = body
  }
}

/** A session, and which of the protocols offered the server chose for it. */
export interface NegotiatedSession {
  readonly session: SpdySession
  readonly protocol: string
}

const LIMITS = { role: 'client', maxStreams: 0, maxBufferedBytes: 1024 * 1024 } as const

/** Upgrades to SPDY/3.1 as Kubernetes clients do. @throws UpgradeRefused */
export function openSpdy(
  url: string,
  protocols: readonly string[],
  options: UpgradeOptions = {},
): Promise<NegotiatedSession> {
  const request = url.startsWith('https:') ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'SPDY/3.1',
      'x-stream-protocol-version': [...protocols],
      ...options.headers,
    }
    const outgoing = request(url, { ...options.tls, method: 'POST', headers, ...own(options) })
    outgoing.on('upgrade', (response, socket, head) => {
      const protocol = String(response.headers['x-stream-protocol-version'] ?? '')
      resolve({ session: new SpdyConnection(socket, head, LIMITS), protocol })
    })
    outgoing.on('response', (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        reject(new UpgradeRefused(response.statusCode ?? 0, Buffer.concat(parts).toString()))
      })
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

/** Upgrades to WebSocket; `protocol` of the socket says what was chosen. @throws UpgradeRefused */
export function openWebSocket(
  url: string,
  protocols: readonly string[],
  options: UpgradeOptions = {},
  onUpgrade: (response: IncomingMessage) => void = () => undefined,
): Promise<WebSocket> {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), [...protocols], {
    perMessageDeflate: false,
    headers: options.headers,
    ...options.tls,
    ...own(options),
  })
  socket.once('upgrade', onUpgrade)
  return new Promise((resolve, reject) => {
    socket.once('open', () => {
      // What the server says at once would be said to nobody.
      socket.pause()
      setImmediate(() => socket.resume())
      resolve(socket)
    })
    socket.on('error', reject)
    socket.once('unexpected-response', (_request, response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('end', () => {
        reject(new UpgradeRefused(response.statusCode ?? 0, Buffer.concat(parts).toString()))
        socket.terminate()
      })
    })
  })
}

/** SPDY/3.1 inside of binary WebSocket messages, as kubectl forwards ports. */
export async function openTunnel(
  url: string,
  protocols: readonly string[],
  options: UpgradeOptions = {},
): Promise<NegotiatedSession> {
  const prefix = 'SPDY/3.1+'
  const offered = protocols.map((protocol) => `${prefix}${protocol}`).join(', ')
  // For ws a protocol is a token, and a slash in none: it hears of these neither in the request nor in the answer.
  const headers = { ...options.headers, 'sec-websocket-protocol': offered }
  let chosen = ''
  const socket = await openWebSocket(url, [], { ...options, headers }, (response) => {
    chosen = response.headers['sec-websocket-protocol'] ?? ''
    delete response.headers['sec-websocket-protocol']
  })
  const session = new SpdyConnection(createWebSocketStream(socket), Buffer.alloc(0), LIMITS)
  return { session, protocol: chosen.replace(prefix, '') }
}

/** A connection of its own, for a client of node:http. */
function own({ socket }: UpgradeOptions): Pick<RequestOptions, 'agent' | 'createConnection'> {
  return socket ? { createConnection: () => socket } : { agent: false }
}
