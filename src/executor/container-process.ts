import { join } from 'node:path'
import { sleep } from '../core/deadline.ts'
import { readTextIfAny } from '../host/files.ts'
import { cgroupsOf, identifyProcess, isAlive, type ProcessIdentity } from '../host/process.ts'
import { CONTAINER_PIDFILE } from './monitor.ts'
import type { ContainerRecord } from './types.ts'

/** The process of the container as its monitor wrote it down, if it still runs and is in the container's cgroup. */
export async function findContainerProcess(record: ContainerRecord, bootId: string): Promise<ProcessIdentity | null> {
  const text = await readTextIfAny(join(record.bundleDir, CONTAINER_PIDFILE))
  return visibleProcess(record, Number.parseInt(text ?? '', 10), bootId)
}

/**
 * The process with this pid, if it runs and is one of the container's on this node: a pid may be a stranger's by now, and a
 * virtual machine counts its own. The cgroup, which carries the id, tells. Null for what is no pid.
 */
export async function visibleProcess(
  { id }: { readonly id: string },
  pid: number,
  bootId: string,
): Promise<ProcessIdentity | null> {
  if (!(pid > 0)) return null
  const cgroups = [...(await cgroupsOf(pid)).values()]
  const process = cgroups.some((path) => path.includes(id)) ? identifyProcess(pid, bootId) : null
  // One that has ended keeps its pid and cgroup until its parent has asked for it.
  return process && isAlive(process, bootId) ? process : null
}

/** Whether the process ends, or has ended, within this time. */
export async function endsWithin(
  process: ProcessIdentity,
  bootId: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const end = performance.now() + timeoutMs
  for (let pause = 1; isAlive(process, bootId); pause = Math.min(pause * 2, 50)) {
    const left = end - performance.now()
    if (left <= 0) return false
    await sleep(Math.min(pause, left), signal)
  }
  return true
}
