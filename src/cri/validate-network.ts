import { isIP } from 'node:net'
import { invalidField } from '../core/errors.ts'
import type { DNSConfig__Output } from '../generated/runtime/v1/DNSConfig.ts'
import type { PortMapping__Output } from '../generated/runtime/v1/PortMapping.ts'
import { Protocol } from '../generated/runtime/v1/Protocol.ts'
import { checkEnum, checkText, checkWord, shown } from './checks.ts'

const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/
/** What the kernel holds (`__NEW_UTS_LEN`). */
const MAX_HOSTNAME = 64
/** What glibc since 2.26 and Kubernetes allow. */
const MAX_SEARCHES = 32
const MAX_SEARCH_CHARS = 2048
const MAX_ENTRY_BYTES = 255

/** An RFC 1123 host name, possibly with a domain; `''` is none. */
export function checkHostname(field: string, hostname: string): void {
  if (hostname === '') return
  checkText(field, hostname, MAX_HOSTNAME)
  if (!hostname.split('.').every((label) => label.length <= 63 && LABEL.test(label))) {
    throw invalidField(field, `not an RFC 1123 host name: ${shown(hostname)}`)
  }
}

/** Each entry becomes a part of a line of resolv.conf, so none may bring lines or words of its own. */
export function checkDnsConfig(field: string, dns: DNSConfig__Output): void {
  for (const [at, server] of dns.servers.entries()) {
    if (isIP(server) === 0) throw invalidField(`${field}.servers[${at}]`, `not an IP address: ${shown(server)}`)
  }
  for (const [at, search] of dns.searches.entries()) checkWord(`${field}.searches[${at}]`, search, MAX_ENTRY_BYTES)
  for (const [at, option] of dns.options.entries()) checkWord(`${field}.options[${at}]`, option, MAX_ENTRY_BYTES)
  if (dns.searches.length > MAX_SEARCHES) {
    throw invalidField(`${field}.searches`, `${dns.searches.length} are more than ${MAX_SEARCHES}`)
  }
  const chars = dns.searches.join(' ').length
  if (chars > MAX_SEARCH_CHARS) {
    throw invalidField(`${field}.searches`, `${chars} characters in all are more than ${MAX_SEARCH_CHARS}`)
  }
}

/** Ports of a pod. A host port of 0 publishes nothing. */
export function checkPortMappings(field: string, mappings: readonly PortMapping__Output[]): void {
  for (const [at, mapping] of mappings.entries()) {
    const path = `${field}[${at}]`
    checkEnum(`${path}.protocol`, mapping.protocol, Protocol)
    checkPort(`${path}.container_port`, mapping.container_port)
    checkPort(`${path}.host_port`, mapping.host_port)
    if (mapping.host_ip !== '' && isIP(mapping.host_ip) === 0) {
      throw invalidField(`${path}.host_ip`, `not an IP address: ${shown(mapping.host_ip)}`)
    }
  }
}

/**
 * The CIDRs of a pod_cidr, which separates them by commas; `''` holds none.
 *
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function parsePodCidrs(field: string, podCidr: string): string[] {
  if (podCidr === '') return []
  const cidrs = podCidr.split(',').map((cidr) => cidr.trim())
  for (const cidr of cidrs) if (!isCidr(cidr)) throw invalidField(field, `not a CIDR: ${shown(cidr)}`)
  return cidrs
}

function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || address.includes('%') || rest.length > 0) return false
  return /^(0|[1-9][0-9]{0,2})$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128)
}

function checkPort(field: string, port: number): void {
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw invalidField(field, `${port} is not between 0 and 65535`)
  }
}
