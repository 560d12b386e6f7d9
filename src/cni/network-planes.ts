import { isIP } from 'node:net'
import { z } from 'zod'
import { errorMessage, invalidField } from '../core/errors.ts'
import type { CapabilityArgs } from './capabilities.ts'
import { isCidr } from './capabilities.ts'

/** The interface of a pod's default network. */
export const PRIMARY_INTERFACE = 'eth0'

const ANNOTATION = 'network.alpha.kubernetes.io/network'
const FIELD = `config.annotations[${ANNOTATION}]`
const MAX_PLANES = 32

/** One network that a pod is to be attached to, under which interface name, and what was asked for it alone. */
export interface NetworkPlane {
  readonly network: string
  readonly ifName: string
  readonly capabilities: CapabilityArgs
}

// Linux: 1 to 15 bytes without "/", ":" and white space. `lo` is there already.
const interfaceName = z
  .string()
  .regex(/^[^/:\s\p{Cc}]{1,15}$/u)
  .refine((name) => Buffer.byteLength(name) <= 15 && !['.', '..', 'lo'].includes(name), 'not an interface name')

const planesSchema = z
  .array(
    z.strictObject({
      name: z.string().min(1),
      interface: interfaceName,
      ips: z.array(z.string().refine((text) => isIP(text) !== 0 || isCidr(text), 'not an address')).optional(),
      mac: z
        .string()
        .regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i, 'not a MAC address')
        .optional(),
    }),
  )
  .max(MAX_PLANES)

/**
 * The networks of a pod: the default one as `eth0` first, then those of the annotation
 * `network.alpha.kubernetes.io/network`, a JSON list of `{name, interface}` in its order. An entry for `eth0` takes the
 * default network's place. An entry may also carry `ips` and `mac`, as in the Network Plumbing Working Group's
 * annotation: the CRI has no field for them, and nobody else defines one. To give them to the default network, name
 * it with interface `eth0`.
 *
 * @throws CodedError `InvalidArgument` naming the annotation.
 */
export function networkPlanes(
  annotations: Readonly<Record<string, string>>,
  defaultNetwork: string,
  networks: ReadonlySet<string>,
): NetworkPlane[] {
  const planes = parsePlanes(annotations[ANNOTATION])
  const seen = new Set<string>()
  for (const { network, ifName } of planes) {
    if (!networks.has(network)) throw invalidField(FIELD, `there is no network ${JSON.stringify(network)}`)
    if (network === defaultNetwork && ifName !== PRIMARY_INTERFACE) {
      throw invalidField(FIELD, `network ${network} is the default network: its interface is ${PRIMARY_INTERFACE}`)
    }
    if (seen.has(ifName)) throw invalidField(FIELD, `interface ${ifName} is named twice`)
    seen.add(ifName)
  }
  const primary = planes.find((plane) => plane.ifName === PRIMARY_INTERFACE)
  return [
    primary ?? { network: defaultNetwork, ifName: PRIMARY_INTERFACE, capabilities: {} },
    ...planes.filter((plane) => plane !== primary),
  ]
}

function parsePlanes(text: string | undefined): NetworkPlane[] {
  if (text === undefined) return []
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw invalidField(FIELD, errorMessage(error))
  }
  const parsed = planesSchema.safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw invalidField(FIELD, `${issue?.path.join('.') || 'list'}: ${issue?.message}`)
  }
  return parsed.data.map(({ name, interface: ifName, ips, mac }) => ({
    network: name,
    ifName,
    capabilities: { ...(ips ? { ips } : {}), ...(mac ? { mac } : {}) },
  }))
}
