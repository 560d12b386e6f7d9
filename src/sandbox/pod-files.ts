import { isIP } from 'node:net'
import { invalidField } from '../core/errors.ts'
import type { NetMode } from './types.ts'

/** The name resolution that the caller asks for (`runtime.v1.DNSConfig`). */
export interface DnsConfig {
  readonly servers: readonly string[]
  readonly searches: readonly string[]
  readonly options: readonly string[]
}

/** HOST_NAME_MAX (limits.h): sethostname(2) refuses more. */
const MAX_HOSTNAME_BYTES = 64

const LOCAL_HOSTS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`

/**
 * The text of the pod's `/etc/hosts`: a copy of the node's for a pod that shares its network, otherwise the local names
 * and, as far as they are known, the pod's addresses.
 *
 * @param options.hostFile the node's file; undefined when it has none.
 * @throws CodedError `InvalidArgument` for a hostname or an address that would not stay what it is in the file.
 */
export function hostsFile(options: {
  readonly hostname: string
  readonly ips?: readonly string[]
  readonly hostNetwork: boolean
  readonly hostFile?: string | undefined
}): string {
  if (options.hostNetwork && options.hostFile !== undefined) return options.hostFile
  const hostname = word('config.hostname', options.hostname)
  const lines = (options.ips ?? []).map((ip, index) => {
    if (isIP(ip) === 0) throw invalidField(`ips[${index}]`, 'must be an IP address')
    return `${ip}\t${hostname}\n`
  })
  return options.hostNetwork ? LOCAL_HOSTS : `${LOCAL_HOSTS}${lines.join('')}`
}

/**
 * The text of the pod's `/etc/resolv.conf` (resolv.conf(5)): what the caller asks for, or a copy of the node's file when
 * that is nothing. Where the node has none either, no resolver is made up.
 *
 * @param hostFile the node's file; undefined when it has none.
 * @throws CodedError `InvalidArgument` for an entry that is empty or would not stay one word of its line.
 */
export function resolvConf(dns: DnsConfig | null, hostFile: string | undefined): string {
  const servers = words('config.dns_config.servers', dns?.servers)
  const searches = words('config.dns_config.searches', dns?.searches)
  const options = words('config.dns_config.options', dns?.options)
  if (servers.length + searches.length + options.length === 0) {
    return hostFile ?? '# Neither the pod nor its node names a resolver.\n'
  }
  const lines = servers.map((server) => `nameserver ${server}\n`)
  if (searches.length > 0) lines.push(`search ${searches.join(' ')}\n`)
  if (options.length > 0) lines.push(`options ${options.join(' ')}\n`)
  return lines.join('')
}

/**
 * The hostname that is in force in the pod. One that shares the node's network shares its UTS namespace too, so it is the
 * node's, whatever the caller asks for. Otherwise it is the caller's, or the beginning of the id.
 *
 * @param options.hostname as the caller's configuration has it; `''` is none.
 * @throws CodedError `InvalidArgument` for a hostname that is too long or not one word.
 */
export function hostnameFor(options: {
  readonly hostname: string
  readonly netMode: NetMode
  readonly id: string
  readonly nodeHostname: string
}): string {
  const asked = options.hostname === '' ? '' : word('config.hostname', options.hostname)
  if (Buffer.byteLength(asked) > MAX_HOSTNAME_BYTES) {
    throw invalidField('config.hostname', `must be at most ${MAX_HOSTNAME_BYTES} bytes long`)
  }
  if (options.netMode === 'host') return options.nodeHostname
  // The whole id is one character too long for a DNS label (RFC 1123).
  return asked || options.id.slice(0, 12)
}

function words(field: string, values: readonly string[] | undefined): string[] {
  return (values ?? []).map((value, index) => word(`${field}[${index}]`, value))
}

/** Requests are validated where they come in; a file that programs trust checks again what goes into it. */
function word(field: string, value: string): string {
  if (value === '') throw invalidField(field, 'must not be empty')
  if (/\p{Cc}/u.test(value)) throw invalidField(field, 'must not contain control characters')
  if (/\s/u.test(value)) throw invalidField(field, 'must not contain white space')
  return value
}
