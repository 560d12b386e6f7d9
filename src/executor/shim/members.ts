import { readlinkSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { errorMessage } from '../../core/errors.ts'
import { cgroupMounts, removeCgroupIfEmpty } from '../../host/cgroup/cgroup.ts'
import { isMissing } from '../../host/files.ts'
import { isPinnedNamespace } from '../../host/kernel/namespace-file.ts'
import { cgroupsOf, identifyProcess, isAlive, listPids, type ProcessIdentity } from '../../host/process.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'

/** Those that the containers of a pod share. */
const SHARED = ['net', 'ipc', 'uts', 'pid']
/** Where the shim of runc has the runtime's state when nobody says otherwise. */
const DEFAULT_ROOT = '/run/containerd/runc'

/** A process of a pod, with the paths of its cgroups. */
export interface Member {
  readonly process: ProcessIdentity
  readonly cgroups: readonly string[]
}

/**
 * The living processes of a pod: those that are known, and those in a namespace of the pod which is not the node's. Only when
 * no shim answers for them any more: whoever has entered the pod from outside is among them.
 * @param pod.known some that live, such as the one that holds the pod's namespaces.
 */
export async function findMembers(
  pod: { readonly netnsPath: string; readonly known: readonly ProcessIdentity[] },
  bootId: string,
): Promise<Member[]> {
  const known = new Set(pod.known.map(({ pid }) => pid))
  const namespaces = new Set([
    await pinnedNetwork(pod.netnsPath),
    ...[...known].flatMap((pid) => SHARED.map((type) => namespaceOf(pid, type))),
  ])
  for (const type of SHARED) namespaces.delete(namespaceOf('self', type))
  namespaces.delete('')
  const pids = listPids().filter(
    (pid) => known.has(pid) || SHARED.some((type) => namespaces.has(namespaceOf(pid, type))),
  )
  const processes = pids.flatMap((pid) => identifyProcess(pid, bootId) ?? [])
  return membersOf(processes.filter((process) => isAlive(process, bootId)))
}

/** Notes the cgroups of processes, which nobody can tell any more when they are gone. */
export async function membersOf(processes: readonly ProcessIdentity[]): Promise<Member[]> {
  return Promise.all(
    processes.map(async (process) => {
      const paths = new Set((await cgroupsOf(process.pid)).values())
      return { process, cgroups: [...paths].filter((path) => path !== '/') }
    }),
  )
}

/** The ids of the containers that these are processes of, as far as their cgroups are named after them. */
export function containerIds(members: readonly Member[]): string[] {
  return [...new Set(members.flatMap(({ cgroups }) => cgroups.map(containerId)))].filter((id) => id !== '')
}

/**
 * Removes what an OCI runtime and the kernel keep of containers that had these processes, which have ended.
 * @returns what went wrong; it is tried for each.
 */
export async function clearUpMembers(
  members: readonly Member[],
  runtime: { readonly path: string; readonly root: string; readonly namespace: string },
  call: { readonly run: RunProgram; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string[]> {
  const cgroups = [...new Set(members.flatMap((member) => member.cgroups))]
  const roots = runtimeRoots(runtime.root, runtime.namespace)
  const problems: string[] = []
  for (const id of containerIds(members)) {
    for (const root of roots) {
      if (runtime.path === '' || (await isMissing(join(root, id)))) continue
      try {
        const { timeoutMs, signal } = call
        await call.run(runtime.path, ['--root', root, 'delete', '--force', id], { timeoutMs, signal })
      } catch (error) {
        problems.push(errorMessage(error))
      }
    }
  }
  const mounts = cgroupMounts()
  for (const path of cgroups) await removeCgroupIfEmpty(mounts, path)
  return problems
}

/** Where the runtime may have the state of a shim's containers: a front end has a root of its own. */
export function runtimeRoots(root: string, namespace: string): string[] {
  return [...new Set([root, join(DEFAULT_ROOT, namespace)])].filter((directory) => directory !== '')
}

/** `ID`, or of `cri-containerd-ID.scope`. */
export function containerId(cgroup: string): string {
  const name = basename(cgroup)
  return name.endsWith('.scope') ? name.slice(name.lastIndexOf('-') + 1, -'.scope'.length) : name
}

function namespaceOf(pid: number | 'self', type: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/${type}`)
  } catch {
    return ''
  }
}

/** As `/proc/PID/ns/net` names it. */
async function pinnedNetwork(path: string): Promise<string> {
  return path !== '' && (await isPinnedNamespace(path)) ? `net:[${(await stat(path)).ino}]` : ''
}
