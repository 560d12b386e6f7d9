import { readFile, stat } from 'node:fs/promises'
import { sleep } from '../core/deadline.ts'
import type { Libc } from '../host/libc.ts'
import { identifyProcess, isAlive, listPids, type ProcessIdentity, readBootId, signalProcess } from '../host/process.ts'
import { TOOL_MARK } from './image-tools.ts'

const END_MS = 5000

/**
 * Ends what an earlier daemon has left running in this store when it was killed: it would go on writing there without
 * anybody who watches the disk.
 * @param programs the paths of the tools; nothing else is ended, whatever its environment says.
 * @returns how many there were.
 */
export async function endOrphanedTools(graph: string, programs: readonly string[], libc: Libc): Promise<number> {
  const bootId = readBootId()
  const files = (await Promise.all(programs.map(fileId))).filter((id) => id !== undefined)
  const found: ProcessIdentity[] = []
  for (const pid of listPids()) {
    const process = identifyProcess(pid, bootId)
    if (process && (await isOurs(pid, graph, files))) found.push(process)
  }
  for (const process of found) signalProcess(libc, process, bootId, 'SIGKILL')
  const end = performance.now() + END_MS
  // One that cannot be killed hangs in the kernel: it writes nothing more than what it is writing.
  while (found.some((process) => isAlive(process, bootId)) && performance.now() < end) await sleep(10)
  return found.length
}

async function isOurs(pid: number, graph: string, files: readonly string[]): Promise<boolean> {
  const file = await fileId(`/proc/${pid}/exe`)
  if (file === undefined || !files.includes(file)) return false
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
  return environment.split('\0').includes(`${TOOL_MARK}=${graph}`)
}

/** Which file it is, by whatever path; undefined when there is none. */
async function fileId(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    // A program that has ended, or a thread of the kernel.
    return undefined
  }
}
