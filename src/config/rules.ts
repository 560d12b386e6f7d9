import { BlockList, isIP } from 'node:net'
import { posix } from 'node:path'

/** `sockaddr_un.sun_path` holds 108 bytes, the closing NUL among them (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107

/** A timer of Node wraps round beyond 2^31 - 1 ms (24.8 days); a day is more than any of ours needs. */
const MAX_SECONDS = 86_400

/** Why `path` cannot be used as the path of a file, or undefined when it can. Does not look at the machine. */
export function pathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'must be an absolute path'
  if (/\p{Cc}/u.test(path)) return 'must not contain control characters'
  if (path === '/') return 'must not be the root directory'
  const normalized = posix.normalize(path).replace(/(?<=.)\/$/, '')
  if (normalized !== path) return `must be a normalized path: ${normalized}`
  return undefined
}

/** Like {@link pathProblem}, but `''` (derive it from another key) is fine. */
export function optionalPathProblem(path: string): string | undefined {
  return path === '' ? undefined : pathProblem(path)
}

/** Why `path` cannot be the address of a Unix socket, or undefined when it can. */
export function socketProblem(path: string): string | undefined {
  const bytes = Buffer.byteLength(path)
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    return `must be a path of at most ${MAX_SOCKET_PATH_BYTES} bytes, ${path} has ${bytes}`
  }
  return undefined
}

/** The path in the address of a remote sandboxer: `unix:///path` or a bare path. */
export function addressPath(address: string): string {
  return address.startsWith('unix://') ? address.slice('unix://'.length) : address
}

/** Why `address` is not one of a Unix socket, or undefined when it is. */
export function addressProblem(address: string): string | undefined {
  const path = addressPath(address)
  const why = pathProblem(path)
  return why === undefined ? socketProblem(path) : `must be unix:///path or /path: the path ${why}`
}

/** Why `seconds` cannot be a time limit, or undefined when it can. */
export function secondsProblem(seconds: number): string | undefined {
  if (seconds >= 0.001 && seconds <= MAX_SECONDS) return undefined
  return `must be between 0.001 and ${MAX_SECONDS} seconds`
}

/** Like {@link secondsProblem}, but 0 (do not wait at all) is fine. */
export function graceProblem(seconds: number): string | undefined {
  return seconds === 0 ? undefined : secondsProblem(seconds)?.replace('be', 'be 0 or')
}

/** Why `text` cannot name a group: a name of /etc/group or a numeric id; `''` is none. */
export function groupProblem(text: string): string | undefined {
  if (text === '' || /^[A-Za-z_][\w.-]{0,31}$/.test(text)) return undefined
  if (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 32 - 1) return undefined
  return 'must be the name of a group or a numeric group id'
}

/** True inside `directory` and for `directory` itself. Both are normalized. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

/** True for the permission bits of a file: three octal digits, as text with or without the leading 0, or as a number. */
export function isMode(mode: string | number): boolean {
  if (typeof mode === 'string') return /^(?:0o?)?[0-7]{3}$/.test(mode)
  return Number.isInteger(mode) && mode >= 0 && mode <= 0o777
}

export function bytesProblem(value: number): string | undefined {
  return Number.isSafeInteger(value) && value >= 0 ? undefined : 'must be a whole number of bytes, 0 or more'
}

/** Why `text` is no IP address, or undefined when it is one. */
export function ipProblem(text: string): string | undefined {
  return isIP(text) === 0 || text.includes('%') ? 'must be an IP address' : undefined
}

/** Why `port` cannot be listened on, or undefined when it can; 0 is any. */
export function portProblem(port: number): string | undefined {
  return Number.isInteger(port) && port >= 0 && port <= 65_535 ? undefined : 'must be a TCP port, or 0'
}

/** Why `text` cannot be the beginning of URLs, or undefined when it can; `''` (derive it) is fine. */
export function baseUrlProblem(text: string): string | undefined {
  if (text === '') return undefined
  const problem = 'must be http://host[:port][/path] or https://host[:port][/path]'
  if (!URL.canParse(text) || /[\s?#]/.test(text)) return problem
  const { protocol, username, password } = new URL(text)
  return /^https?:$/.test(protocol) && username === '' && password === '' ? undefined : problem
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8)
LOOPBACK.addAddress('::1', 'ipv6')

const WILDCARD = new BlockList()
WILDCARD.addAddress('0.0.0.0')
WILDCARD.addAddress('::', 'ipv6')

/** True for an IP address that nobody but this machine can reach. */
export function isLoopback(address: string): boolean {
  return LOOPBACK.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** True for an IP address that stands for all those of the machine. */
export function isWildcard(address: string): boolean {
  return WILDCARD.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** Why `text` is not an IP address of the loopback and a port, or undefined when it is, or `''` (none). */
export function listenProblem(text: string): string | undefined {
  if (text === '') return undefined
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([\d.]+)):(\d{1,5})$/.exec(text) ?? []
  const address = v6 ?? v4 ?? ''
  if (isIP(address) !== (v6 === undefined ? 4 : 6) || Number(port) > 65_535)
    return 'must be as 127.0.0.1:9464 or [::1]:9464'
  return isLoopback(address) ? undefined : 'must be a loopback address: whoever can reach it reads the metrics'
}

export function ratioProblem(value: number): string | undefined {
  return value >= 0 && value <= 1 ? undefined : 'must be between 0 and 1'
}
