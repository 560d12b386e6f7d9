import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ChannelOptions } from './websocket/channel-connection.ts'
import type { StatusFormat } from './command/status.ts'
import { TOKEN_PATTERN } from './tokens.ts'
import type { StreamRequest } from './types.ts'

/** Why a request is not served, as HTTP says it. */
export interface Refusal {
  readonly status: number
  readonly message: string
  readonly headers?: Readonly<Record<string, string>>
}

/** What a client and this server have agreed on. */
export type Agreement =
  | { readonly carrier: 'spdy'; readonly protocol: string }
  /** `''` where the client named no protocol. */
  | { readonly carrier: 'websocket'; readonly protocol: string }

interface Channels extends ChannelOptions {
  readonly status: StatusFormat
}

/** Remote commands over SPDY, the newest version first. Sizes of terminals are told from v3 on, exit codes from v4 on. */
export const SPDY_COMMANDS: Readonly<Record<string, { readonly status: StatusFormat; readonly hasResize: boolean }>> = {
  'v4.channel.k8s.io': { status: 'json', hasResize: true },
  'v3.channel.k8s.io': { status: 'text', hasResize: true },
  'v2.channel.k8s.io': { status: 'text', hasResize: false },
  'channel.k8s.io': { status: 'text', hasResize: false },
}

/** Channels over WebSocket. Only v5 has a half-close: in all others input ends with the connection. */
export const WEBSOCKET_CHANNELS: Readonly<Record<string, Channels>> = {
  'v5.channel.k8s.io': { codec: 'binary', hasClose: true, status: 'json' },
  'v4.channel.k8s.io': { codec: 'binary', hasClose: false, status: 'json' },
  'v4.base64.channel.k8s.io': { codec: 'base64', hasClose: false, status: 'json' },
  'channel.k8s.io': { codec: 'binary', hasClose: false, status: 'text' },
  'base64.channel.k8s.io': { codec: 'base64', hasClose: false, status: 'text' },
  '': { codec: 'binary', hasClose: false, status: 'text' },
}

const PORT_FORWARD = 'portforward.k8s.io'
/** SPDY inside of the messages of a WebSocket. */
export const TUNNEL = `SPDY/3.1+${PORT_FORWARD}`

const PROTOCOLS = {
  command: { spdy: Object.keys(SPDY_COMMANDS), websocket: Object.keys(WEBSOCKET_CHANNELS) },
  portforward: { spdy: [PORT_FORWARD], websocket: [TUNNEL, 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io', ''] },
}

const PATH = /\/(exec|attach|portforward)\/([^/?]+)$/

/**
 * What can be said of a request before anything is done for it: a refusal, or what was asked for and agreed on. Whether its
 * token is good is not looked at, so that one is not lost with a request that could not be served.
 */
export function readRequest(
  request: IncomingMessage,
): Refusal | { readonly kind: StreamRequest['kind']; readonly token: string; readonly agreement: Agreement } {
  // Browsers send it, and only they: no page may use the URLs of this server, wherever it has them from.
  if (request.headers.origin !== undefined) return refusal(403, 'requests with an Origin are not served')
  const [, kind, token = ''] = PATH.exec(request.url?.split('?')[0] ?? '') ?? []
  if (!isKind(kind) || !TOKEN_PATTERN.test(token)) return NOT_FOUND
  const agreement = agree(request, PROTOCOLS[kind === 'portforward' ? 'portforward' : 'command'])
  return 'status' in agreement ? agreement : { kind, token, agreement }
}

/** Also for a token that is used up or expired: nobody is told which. */
export const NOT_FOUND: Refusal = refusal(404, 'there is no such session: its URL is good for one use within a minute')

export function refusal(status: number, message: string, headers: Readonly<Record<string, string>> = {}): Refusal {
  return { status, message, headers }
}

/** Answers a request whose connection was handed over, and closes it. */
export function refuse(socket: Duplex, { status, message, headers }: Refusal): void {
  const body = `${message}\n`
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Connection: close',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`),
  ]
  // What else it sends is read, and dropped: or the answer could be lost with a reset.
  socket.resume()
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`)
}

function isKind(kind: string | undefined): kind is StreamRequest['kind'] {
  return kind === 'exec' || kind === 'attach' || kind === 'portforward'
}

function agree(
  request: IncomingMessage,
  supported: { readonly spdy: readonly string[]; readonly websocket: readonly string[] },
): Refusal | Agreement {
  const upgrade = request.headers.upgrade?.toLowerCase() ?? ''
  if (upgrade === 'websocket') {
    const offered = valuesOf(request.headers['sec-websocket-protocol'])
    if (!isWebSocketHandshake(request)) return refusal(400, 'this is not a handshake of WebSocket 13')
    const protocol = firstOf(offered.length === 0 ? [''] : offered, supported.websocket)
    if (protocol !== undefined) return { carrier: 'websocket', protocol }
    return refusal(403, `none of the protocols ${offered.join(', ')} is served: ${named(supported.websocket)} are`)
  }
  if (!upgrade.includes('spdy/3.1')) return refusal(400, 'the connection must be upgraded to SPDY/3.1 or websocket')
  const offered = valuesOf(request.headers['x-stream-protocol-version'])
  if (offered.length === 0) return refusal(400, 'the header X-Stream-Protocol-Version is missing')
  const protocol = firstOf(offered, supported.spdy)
  if (protocol !== undefined) return { carrier: 'spdy', protocol }
  return refusal(403, `none of the protocols ${offered.join(', ')} is served: ${named(supported.spdy)} are`, {
    'X-Accepted-Stream-Protocol-Versions': supported.spdy.join(', '),
  })
}

/** As `ws` checks it, but before anything is used up. */
function isWebSocketHandshake({ method, headers }: IncomingMessage): boolean {
  const { 'sec-websocket-key': key = '', 'sec-websocket-version': version = '' } = headers
  return method === 'GET' && /^[+/0-9A-Za-z]{22}==$/.test(key) && /^(13|8)$/.test(version)
}

/** The client's preference counts. */
function firstOf(offered: readonly string[], supported: readonly string[]): string | undefined {
  return offered.find((protocol) => supported.includes(protocol))
}

function valuesOf(header: string | readonly string[] | undefined): string[] {
  const text = typeof header === 'string' ? header : (header ?? []).join(',')
  return text.split(',').flatMap((value) => value.trim() || [])
}

function named(protocols: readonly string[]): string {
  return protocols.filter((protocol) => protocol !== '').join(', ')
}
