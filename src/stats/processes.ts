import { readdirSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Machine } from './cgroup-reader.ts'
import type { ProcessesDetail } from './cgroup-reading.ts'
import { isAbsence, parseNumber } from './small-files.ts'

/** Whether a descriptor is a socket costs a call for each: one container with more than these is not worth it. */
const MAX_DESCRIPTORS = 20_000
/** A directory of cgroupfs has this many links and one more for each directory in it. */
const LINKS_OF_LEAF = 2

/** The pids in a cgroup and all below it; null when there is none of that name. */
export function listProcesses({ files, hierarchies }: Machine, cgroupPath: string): string[] | null {
  const mount = hierarchies.pids?.mount ?? hierarchies.memory?.mount ?? hierarchies.unified
  if (mount === null || mount === undefined) return null
  const pids: string[] = []
  const visit = (directory: string): boolean => {
    // A threaded cgroup has no readable list: its processes are in that of the one above.
    const text = files.text(`${directory}/cgroup.procs`)
    for (const line of text?.split('\n') ?? []) if (line !== '') pids.push(line)
    for (const child of childrenOf(directory)) visit(join(directory, child))
    return text !== null
  }
  return visit(`${mount}${cgroupPath}`) ? pids : null
}

function childrenOf(directory: string): string[] {
  try {
    if (statSync(directory).nlink === LINKS_OF_LEAF) return []
    const entries = readdirSync(directory, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  } catch (error) {
    if (isAbsence(error)) return []
    throw error
  }
}

/** What /proc and the pids controller tell of the processes of a container. */
export function readProcesses(
  machine: Machine,
  { cgroupPath, pid }: { readonly cgroupPath: string; readonly pid: number | null },
  pids: readonly string[],
): ProcessesDetail {
  const { files, hierarchies, proc } = machine
  const directory = hierarchies.pids && `${hierarchies.pids.mount}${cgroupPath}`
  const max = directory === null ? null : files.text(`${directory}/pids.max`)
  const threadsMax = max === null ? null : parseNumber(max)
  const limits = pid === null ? null : files.text(`${proc}/${pid}/limits`)
  return {
    threads: directory === null ? null : files.number(`${directory}/pids.current`),
    threadsMax: threadsMax === Number.POSITIVE_INFINITY ? null : threadsMax,
    ...countDescriptors(proc, pids),
    openFilesLimit: limits === null ? null : (/^Max open files +(\S+)/m.exec(limits)?.[1] ?? null),
  }
}

function countDescriptors(proc: string, pids: readonly string[]): Pick<ProcessesDetail, 'fileDescriptors' | 'sockets'> {
  let fileDescriptors = 0
  let sockets: number | null = 0
  for (const pid of pids) {
    const directory = `${proc}/${pid}/fd`
    const fds = listIfAny(directory)
    fileDescriptors += fds.length
    if (sockets === null || fileDescriptors > MAX_DESCRIPTORS) sockets = null
    else for (const fd of fds) if (isSocket(`${directory}/${fd}`)) sockets++
  }
  return { fileDescriptors, sockets }
}

function listIfAny(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (isAbsence(error)) return []
    throw error
  }
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:')
  } catch (error) {
    if (isAbsence(error)) return false
    throw error
  }
}
