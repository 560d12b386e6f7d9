import { CAPABILITIES } from '../core/capabilities.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import type { LinuxContainerSecurityContext__Output } from '../generated/runtime/v1/LinuxContainerSecurityContext.ts'
import type { Capabilities } from './spec.ts'

const FIELD = 'config.linux.security_context.capabilities'

/** What a container has that asks for nothing, as with containerd and docker. */
const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
]

/**
 * The capabilities of a container, in the order of their numbers. `ALL` in `add` is all that the daemon may give, `ALL`
 * in `drop` takes everything away first; then single names are added and dropped, and dropping wins. Inheritable and
 * ambient hold only what is asked for as ambient, for with more any program with file capabilities would get what the
 * process was denied (CVE-2022-27652). Privileged is all that the daemon may give, whatever else is asked.
 *
 * @throws CodedError `InvalidArgument` for a name that is no capability, `FailedPrecondition` when the daemon itself
 * lacks one that is asked for by name.
 */
export function containerCapabilities(
  context: LinuxContainerSecurityContext__Output | null,
  allowed: readonly string[],
): Capabilities {
  const asked = context?.capabilities ?? null
  const add = names(asked?.add_capabilities ?? [], 'add_capabilities')
  const drop = names(asked?.drop_capabilities ?? [], 'drop_capabilities')
  const ambient = names(asked?.add_ambient_capabilities ?? [], 'add_ambient_capabilities')
  if (ambient.includes('ALL')) throw invalidField(`${FIELD}.add_ambient_capabilities`, 'ALL cannot be ambient')
  const privileged = context?.privileged ?? false
  const named = [...add, ...ambient].filter((name) => name !== 'ALL')
  if (!privileged) refuseLacking(named, allowed)
  const result = new Set(privileged ? allowed : startingSet(add, drop, allowed))
  if (!privileged) {
    for (const name of named) result.add(name)
    for (const name of drop) result.delete(name)
  }
  const sets = CAPABILITIES.filter((name) => result.has(name))
  const inherited = CAPABILITIES.filter((name) => result.has(name) && ambient.includes(name))
  return { bounding: sets, effective: sets, permitted: sets, inheritable: inherited, ambient: inherited }
}

function startingSet(add: readonly string[], drop: readonly string[], allowed: readonly string[]): readonly string[] {
  if (drop.includes('ALL')) return []
  if (add.includes('ALL')) return allowed
  // A nested daemon has fewer than the default: nobody asked for those by name.
  return DEFAULT_CAPABILITIES.filter((name) => allowed.includes(name))
}

function refuseLacking(named: readonly string[], allowed: readonly string[]): void {
  const lacking = named.filter((name) => !allowed.includes(name))
  if (lacking.length === 0) return
  throw new CodedError('FailedPrecondition', `${FIELD}: the daemon itself does not have ${lacking.join(', ')}`)
}

/** `net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are the same. A name that is not known would protect nobody. */
function names(given: readonly string[], key: string): string[] {
  return given.map((text, at) => {
    const upper = text.toUpperCase()
    if (upper === 'ALL') return upper
    const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
    if (CAPABILITIES.includes(name)) return name
    throw invalidField(`${FIELD}.${key}[${at}]`, `not a capability: ${JSON.stringify(text.slice(0, 80))}`)
  })
}
