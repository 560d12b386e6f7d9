import { CodedError, invalidField } from '../core/errors.ts'
import type { IDMapping__Output } from '../generated/runtime/v1/IDMapping.ts'
import type { UserNamespace__Output } from '../generated/runtime/v1/UserNamespace.ts'
import type { ContainerSpecInput } from './container-input.ts'
import { namespaceEntry, NEW_NAMESPACE, podNamespaces } from './namespaces.ts'
import type { Namespace, NamespaceType } from './spec.ts'

const FIELD = 'config.linux.security_context.namespace_options'

/**
 * The namespaces of a container. Network, IPC and UTS are the pod's, whatever the container's own options say: it is the
 * pod that has them. A cgroup namespace is made on v2 only, and not for a privileged container, which manages the node.
 *
 * @throws CodedError `InvalidArgument` for options that no container of this pod can have, `Internal` when a path does
 * not fit what was asked for: falling back to the node's namespace would be a silent escape.
 */
export function containerNamespaces(input: ContainerSpecInput): Namespace[] {
  const { config, podConfig, namespaces } = input
  const context = config.linux?.security_context ?? null
  const pod = podNamespaces(podConfig.linux?.security_context?.namespace_options ?? null)
  checkPath('network', namespaces.net, pod.ownsNetwork)
  checkPath('uts', namespaces.uts, pod.ownsNetwork)
  checkPath('ipc', namespaces.ipc, pod.ownsIpc)
  checkPid(input, pod.ownsPid)
  checkUser(input)
  const list: Namespace[] = [{ type: 'mount' }]
  const add = (type: NamespaceType, path: string | null): void => {
    if (path !== null) list.push(namespaceEntry(type, path, namespaces.elsewhere))
  }
  add('pid', namespaces.pid)
  add('ipc', namespaces.ipc)
  add('network', namespaces.net)
  add('uts', namespaces.uts)
  add('user', namespaces.user)
  if (input.cgroupMode === 'v2' && !context?.privileged) list.push({ type: 'cgroup' })
  return list
}

function checkPath(type: string, path: string | null, isOwned: boolean): void {
  if ((path !== null) === isOwned && path !== NEW_NAMESPACE) return
  throw new CodedError(
    'Internal',
    `build namespaces: the pod ${isOwned ? 'owns' : 'does not own'} its ${type} namespace, its path is ${path}`,
  )
}

function checkPid({ config, podConfig, namespaces: { pid } }: ContainerSpecInput, podOwnsPid: boolean): void {
  const mode = config.linux?.security_context?.namespace_options?.pid ?? 'POD'
  if (mode === 'NODE' && podOwnsPid) {
    throw invalidField(
      `${FIELD}.pid`,
      "the pod has a pid namespace of its own, so its containers cannot use the node's",
    )
  }
  // A pod in which every container has its own need not have a process whose namespace the others could join.
  const podMode = podConfig.linux?.security_context?.namespace_options?.pid ?? 'POD'
  const mayBeNew = mode === 'CONTAINER' || (mode === 'POD' && podMode === 'CONTAINER')
  const mayBeNodes = mode === 'NODE' || (mode !== 'CONTAINER' && !podOwnsPid)
  const mayBeJoined = mode === 'POD' || mode === 'TARGET'
  if (pid === NEW_NAMESPACE ? mayBeNew : pid === null ? mayBeNodes : mayBeJoined) return
  throw new CodedError('Internal', `build namespaces: pid mode ${mode} with the path ${pid}`)
}

function checkUser({ config, podConfig, namespaces }: ContainerSpecInput): void {
  const own = config.linux?.security_context?.namespace_options?.userns_options ?? null
  const pods = podConfig.linux?.security_context?.namespace_options?.userns_options ?? null
  if (mappingText(own) !== mappingText(pods)) {
    throw invalidField(`${FIELD}.userns_options`, 'must be those of the pod, whose user namespace all containers share')
  }
  if ((own?.mode === 'POD') === (namespaces.user !== null)) return
  throw new CodedError('Internal', `build namespaces: user mode ${own?.mode} with the path ${namespaces.user}`)
}

/** Absent options mean the node's user namespace. */
function mappingText(options: UserNamespace__Output | null): string {
  if (options === null || options.mode === 'NODE') return 'NODE'
  const lines = (mappings: readonly IDMapping__Output[]): unknown[] =>
    mappings.map(({ host_id, container_id, length }) => [host_id, container_id, length])
  return JSON.stringify([options.mode, lines(options.uids), lines(options.gids)])
}
