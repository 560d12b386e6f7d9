import { statSync } from 'node:fs'
import type { NamespaceOption } from '../../src/generated/runtime/v1/NamespaceOption.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { podParent } from './cgroup-driver.ts'

/** Whom of the node the root of the tests' user namespaces is. */
export const ROOT = { uid: 200_000, gid: 300_000 } as const

/** The options of a pod in a user namespace, and of its containers. */
export const USERNS: NamespaceOption = {
  network: 'POD',
  pid: 'CONTAINER',
  ipc: 'POD',
  userns_options: {
    mode: 'POD',
    uids: [{ host_id: ROOT.uid, container_id: 0, length: 65_536 }],
    gids: [{ host_id: ROOT.gid, container_id: 0, length: 65_536 }],
  },
}

/** The `linux` of such a pod. */
export function linuxWith(
  daemon: { readonly cgroupParent: string },
  options: NamespaceOption = USERNS,
): NonNullable<PodSandboxConfig['linux']> {
  return { cgroup_parent: podParent(daemon.cgroupParent, 'userns'), security_context: { namespace_options: options } }
}

/** Whom a file of the node belongs to. */
export function ownerOf(path: string): { uid: number; gid: number } {
  const { uid, gid } = statSync(path)
  return { uid, gid }
}
