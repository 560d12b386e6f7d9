import { isIP } from 'node:net'
import { errorMessage, invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { PortMapping__Output } from '../generated/runtime/v1/PortMapping.ts'
import { parseQuantity } from './quantity.ts'

/** Capability name → value (CNI conventions); a plugin gets those that its configuration declares. */
export type CapabilityArgs = Readonly<Record<string, unknown>>

const MIN_RATE = 1000n
const MAX_RATE = 10n ** 15n
// Bits. What kubelet's own shaping and containerd use: no limit of its own on bursts.
const BURST = 2 ** 31 - 1

/**
 * The capabilities that hold for every network of a pod: `bandwidth`, `dns`, `cgroupPath` and
 * `io.kubernetes.cri.pod-annotations`.
 *
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function podCapabilities(config: PodSandboxConfig__Output): CapabilityArgs {
  const bandwidth = bandwidthOf(config.annotations)
  const dns = config.dns_config
  const cgroupParent = config.linux?.cgroup_parent
  return {
    'io.kubernetes.cri.pod-annotations': config.annotations,
    ...(bandwidth && { bandwidth }),
    ...(dns && dns.servers.length + dns.searches.length + dns.options.length > 0
      ? { dns: { servers: dns.servers, searches: dns.searches, options: dns.options } }
      : {}),
    ...(cgroupParent ? { cgroupPath: cgroupParent } : {}),
  }
}

/**
 * The capabilities that belong to the pod's primary interface only: `portMappings` (a host port can lead to one
 * address only) and `ipRanges` (the pod CIDRs are those of the default network; one address is wanted of each).
 *
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function primaryCapabilities(config: PodSandboxConfig__Output, podCidrs: readonly string[]): CapabilityArgs {
  const portMappings = config.port_mappings.flatMap((mapping, index) => {
    const entry = portMappingOf(mapping, `config.port_mappings[${index}]`)
    return entry ? [entry] : []
  })
  return {
    ...(portMappings.length > 0 ? { portMappings } : {}),
    ...(podCidrs.length > 0 ? { ipRanges: podCidrs.map((subnet) => [{ subnet }]) } : {}),
  }
}

/** Whether `text` is an address with a prefix length (`10.1.0.0/16`, `fd00::/64`). */
export function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = isIP(address)
  return family !== 0 && rest.length === 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128)
}

function portMappingOf(mapping: PortMapping__Output, field: string): JsonPortMapping | undefined {
  const { host_port: hostPort, container_port: containerPort, host_ip: hostIP } = mapping
  if (hostPort < 0 || hostPort > 65535) throw invalidField(`${field}.host_port`, `${hostPort} is not a port`)
  if (containerPort < 0 || containerPort > 65535) {
    throw invalidField(`${field}.container_port`, `${containerPort} is not a port`)
  }
  const protocol = protocols.get(mapping.protocol)
  if (!protocol) throw invalidField(`${field}.protocol`, `${mapping.protocol} is not TCP, UDP or SCTP`)
  if (hostIP && isIP(hostIP) === 0)
    throw invalidField(`${field}.host_ip`, `${JSON.stringify(hostIP)} is not an address`)
  // Port 0 maps nothing: the kubelet sends every container port here.
  if (hostPort === 0) return undefined
  if (containerPort === 0) throw invalidField(`${field}.container_port`, 'missing for a host port')
  return { hostPort, containerPort, protocol, ...(hostIP ? { hostIP } : {}) }
}

interface JsonPortMapping {
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: string
  readonly hostIP?: string
}

const protocols: ReadonlyMap<string, string> = new Map([
  ['TCP', 'tcp'],
  ['UDP', 'udp'],
  ['SCTP', 'sctp'],
])

function bandwidthOf(annotations: Readonly<Record<string, string>>): object | undefined {
  const ingressRate = rateOf(annotations, 'kubernetes.io/ingress-bandwidth')
  const egressRate = rateOf(annotations, 'kubernetes.io/egress-bandwidth')
  if (ingressRate === undefined && egressRate === undefined) return undefined
  return {
    ...(ingressRate === undefined ? {} : { ingressRate, ingressBurst: BURST }),
    ...(egressRate === undefined ? {} : { egressRate, egressBurst: BURST }),
  }
}

/** Bits per second; the limits are those of Kubernetes' own check. */
function rateOf(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  const text = annotations[name]
  if (text === undefined) return undefined
  const field = `config.annotations[${name}]`
  let rate: bigint
  try {
    rate = parseQuantity(text)
  } catch (error) {
    throw invalidField(field, errorMessage(error))
  }
  if (rate < MIN_RATE) throw invalidField(field, `${text} is less than 1k (bit/s)`)
  if (rate > MAX_RATE) throw invalidField(field, `${text} is more than 1P (bit/s)`)
  return Number(rate)
}
