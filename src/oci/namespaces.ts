import { CodedError, invalidField } from '../core/errors.ts'
import type { NamespaceOption__Output } from '../generated/runtime/v1/NamespaceOption.ts'
import type { Namespace, NamespaceType } from './spec.ts'

const FIELD = 'config.linux.security_context.namespace_options'
/** In place of a path: the runtime makes the namespace. A missing path never means that by accident. */
export const NEW_NAMESPACE = 'new'

export interface NamespacePaths {
  /** The pinned network namespace to join, {@link NEW_NAMESPACE}, or null for the node's. */
  readonly netPath: string | null
  /** A pinned IPC namespace to join; without it the runtime makes one. */
  readonly ipcPath?: string
  /** A pinned UTS namespace to join; without it the runtime makes one. */
  readonly utsPath?: string
  /** Where the pod's user namespace is pinned; without it the node's is used. */
  readonly userPath?: string
}

/** Which namespaces a pod has for itself. */
export interface PodNamespaces {
  readonly ownsNetwork: boolean
  readonly ownsIpc: boolean
  readonly ownsPid: boolean
  readonly ownsUser: boolean
}

/**
 * Reads `namespace_options`; absent means all of the pod's own, as in the CRI.
 *
 * @throws CodedError `InvalidArgument` for a mode that a sandbox cannot have, or a user namespace without the others: its
 * root may do nothing with namespaces of the node, not even mount a /proc that shows them.
 */
export function podNamespaces(options: NamespaceOption__Output | null): PodNamespaces {
  const own = {
    ownsNetwork: isOwn(`${FIELD}.network`, options?.network ?? 'POD', ['POD']),
    // A pid namespace per container (the API's name for "not shared") still gives the pause one of its own.
    ownsPid: isOwn(`${FIELD}.pid`, options?.pid ?? 'POD', ['POD', 'CONTAINER']),
    ownsIpc: isOwn(`${FIELD}.ipc`, options?.ipc ?? 'POD', ['POD']),
    ownsUser: isOwn(`${FIELD}.userns_options.mode`, options?.userns_options?.mode ?? 'NODE', ['POD']),
  }
  if (!own.ownsUser || (own.ownsNetwork && own.ownsPid && own.ownsIpc)) return own
  throw invalidField(`${FIELD}.userns_options.mode`, "POD is not supported with the node's network, pid or ipc")
}

/**
 * The namespaces of the pod's first container. A host-network pod keeps the node's UTS namespace, and so its host name.
 * A cgroup namespace is made on v2 only: on v1 it hides nothing that is mounted and some runtimes refuse it.
 *
 * @throws CodedError `Internal` when a path does not fit what the pod asked for: falling back to the node's namespace
 * would be a silent escape.
 */
export function namespaceList(pod: PodNamespaces, paths: NamespacePaths, cgroupV2: boolean): Namespace[] {
  const { netPath } = paths
  if ((netPath === null) === pod.ownsNetwork) {
    throw new CodedError(
      'Internal',
      `build namespaces: the pod ${pod.ownsNetwork ? 'owns' : 'does not own'} its network, its path is ${netPath}`,
    )
  }
  if ((paths.userPath === undefined) === pod.ownsUser) {
    throw new CodedError('Internal', `build namespaces: the path of the pod's user namespace is ${paths.userPath}`)
  }
  const list: Namespace[] = [{ type: 'mount' }]
  if (paths.userPath !== undefined) list.push(namespaceEntry('user', paths.userPath))
  if (pod.ownsPid) list.push({ type: 'pid' })
  if (pod.ownsIpc) list.push(namespaceEntry('ipc', paths.ipcPath ?? NEW_NAMESPACE))
  if (netPath !== null)
    list.push(namespaceEntry('network', netPath), namespaceEntry('uts', paths.utsPath ?? NEW_NAMESPACE))
  if (cgroupV2) list.push({ type: 'cgroup' })
  return list
}

/**
 * @param isElsewhere whether the process that holds it may be where this node does not see it, which pid 0 stands for.
 * @throws CodedError `Internal` for a path that cannot be one of a namespace.
 */
export function namespaceEntry(type: NamespaceType, path: string, isElsewhere = false): Namespace {
  if (path === NEW_NAMESPACE) return { type }
  // `/proc/0/ns/net` is what a process that never started leaves behind.
  if (!path.startsWith('/') || (path.startsWith('/proc/0/') && !isElsewhere)) {
    throw new CodedError('Internal', `build namespaces: ${type}: not a usable path: ${JSON.stringify(path)}`)
  }
  return { type, path }
}

function isOwn(field: string, mode: string, own: readonly string[]): boolean {
  if (own.includes(mode)) return true
  if (mode === 'NODE') return false
  throw invalidField(field, `a pod sandbox cannot have the mode ${mode}`)
}
