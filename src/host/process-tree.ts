import { readlinkSync } from 'node:fs'
import type { Libc } from './libc.ts'
import { listPids, type ProcessIdentity, type ProcessStat, readBootId, readStat, signalProcess } from './process.ts'

/** Each round stops what was born in the one before; more than a few only under a fork bomb. */
const MAX_ROUNDS = 50

/** Processes that belong together, as far as the kernel shows it. */
export interface ProcessTree {
  /** The process from which all of them descend. It leads a session of its own. */
  readonly root: number
  /** What one of them holds as its standard input or output (`pipe:[123]`) makes others that hold it part of the tree. */
  readonly pipes: ReadonlySet<string>
}

/**
 * Kills everything below the root, and lets the root see it: descendants, also in sessions of their own; those whose
 * parents ended and that are still in a session of theirs, or hold a pipe of the tree. All are stopped before any is
 * killed, so that none is born meanwhile unseen.
 */
export function killBelow(libc: Libc, tree: ProcessTree): void {
  const bootId = readBootId()
  const stopped = new Map<number, ProcessStat>()
  const signal = (pid: number, stat: ProcessStat, name: 'SIGSTOP' | 'SIGKILL' | 'SIGCONT'): void => {
    const identity: ProcessIdentity = { pid, startTime: stat.startTime, bootId }
    signalProcess(libc, identity, bootId, name)
  }
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const found = [...members(tree)].filter(([pid, stat]) => stopped.get(pid)?.startTime !== stat.startTime)
    if (found.length === 0) break
    for (const [pid, stat] of found) {
      signal(pid, stat, 'SIGSTOP')
      stopped.set(pid, stat)
    }
  }
  for (const [pid, stat] of stopped) if (pid !== tree.root) signal(pid, stat, 'SIGKILL')
  const root = stopped.get(tree.root)
  if (root) signal(tree.root, root, 'SIGCONT')
}

function members({ root, pipes }: ProcessTree): Map<number, ProcessStat> {
  const all = new Map<number, ProcessStat>()
  for (const pid of listPids()) {
    const stat = pid === process.pid ? null : readStat(pid)
    if (stat) all.set(pid, stat)
  }
  const found = new Map([...all].filter(([pid]) => holdsAny(pid, pipes)))
  const sessions = new Set([root])
  for (let before = -1; before !== found.size; ) {
    before = found.size
    for (const [pid, stat] of all) {
      const isDescendant = pid === root || found.has(stat.parentPid) || sessions.has(stat.session)
      if (!isDescendant || (found.has(pid) && sessions.has(stat.session))) continue
      found.set(pid, stat)
      // Only descendants of the root can be in it: the root, too, began one of its own.
      sessions.add(stat.session)
    }
  }
  return found
}

function holdsAny(pid: number, pipes: ReadonlySet<string>): boolean {
  return [0, 1, 2].some((fd) => {
    try {
      return pipes.has(readlinkSync(`/proc/${pid}/fd/${fd}`))
    } catch {
      // Not open, or the process is gone.
      return false
    }
  })
}
