import { invalidField } from '../core/errors.ts'

/** `net.ipv4.ip_forward`: every part a plain word, so that no way of joining them can leave /proc/sys. */
const NAME = /^[a-z0-9_]+(?:\.[A-Za-z0-9_-]+)+$/
/** Printable ASCII, space and tab: no line break reaches a file of the kernel. */
const VALUE = /^[\x20-\x7e\t]{0,4096}$/
const IPC_NAMES = /^(?:kernel\.(?:msg[a-z_]*|sem|shm[a-z_]*)|fs\.mqueue\.[a-z_]+)$/

export interface SysctlOwner {
  readonly ownsNetwork: boolean
  readonly ownsIpc: boolean
}

/**
 * The sysctls of a pod with names in dot form, only those that a namespace of the pod's own keeps apart from the node.
 *
 * @throws CodedError `InvalidArgument` naming `config.linux.sysctls[<name>]` for any other.
 */
export function ownedSysctls(
  sysctls: Readonly<Record<string, string>>,
  owner: SysctlOwner,
): Readonly<Record<string, string>> {
  const result = new Map<string, string>()
  for (const [given, value] of Object.entries(sysctls)) {
    const field = `config.linux.sysctls[${JSON.stringify(given)}]`
    const name = dotForm(given)
    if (!NAME.test(name)) throw invalidField(field, 'not a sysctl name that a runtime can set')
    if (!VALUE.test(value)) throw invalidField(field, 'its value must be printable text on one line')
    if (result.has(name)) throw invalidField(field, `${name} is given twice`)
    const why = whyNotOwned(name, owner)
    if (why !== undefined) throw invalidField(field, why)
    result.set(name, value)
  }
  return Object.fromEntries(result)
}

/**
 * sysctl(8): when `/` comes first it separates, and `.` is part of a name (`net/ipv4/conf/eth0.1/forwarding`). A name
 * with a dot inside keeps a `/` here and is then refused: the runtimes turn every dot into a slash.
 */
function dotForm(name: string): string {
  if (name.search(/[./]/) === -1 || name[name.search(/[./]/)] === '.') return name
  return name.replaceAll(/[./]/g, (separator) => (separator === '/' ? '.' : '/'))
}

function whyNotOwned(name: string, owner: SysctlOwner): string | undefined {
  if (name.startsWith('net.')) {
    return owner.ownsNetwork ? undefined : "belongs to the network namespace, and the pod uses the node's"
  }
  if (IPC_NAMES.test(name)) {
    return owner.ownsIpc ? undefined : "belongs to the IPC namespace, and the pod uses the node's"
  }
  return 'is not kept apart by a namespace of the pod: it would change the node'
}
