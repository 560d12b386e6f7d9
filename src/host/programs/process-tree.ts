import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Libc } from '../libc.ts'
import {
  isAlive,
  listPids,
  type ProcessIdentity,
  type ProcessStat,
  readBootId,
  readStat,
  signalProcess,
} from '../process.ts'

/** Each round stops what was born in the one before; more than a few only under a fork bomb. */
const MAX_ROUNDS = 100

/** Processes that belong together, as far as the kernel shows it. */
export interface ProcessTree {
  /** The process from which all of them descend. It leads a session of its own. */
  readonly root: number
  /**
   * Whoever holds one of them as its standard input or output is part of the tree: a pipe (`pipe:[123]`), or a terminal, as
   * the number of its file system and its own (`45:0` for a `/dev/pts/0`).
   */
  readonly held: ReadonlySet<string>
}

type Found = Map<number, ProcessStat>

/**
 * Kills everything below the root, which lives to see it, or the root itself when there is nothing below it: descendants,
 * also in sessions of their own; those whose parents have ended and that are still in a session of theirs, or hold a pipe
 * or terminal of the tree. All are stopped before any is killed, so that none is born meanwhile unseen.
 */
export function killBelow(libc: Libc, tree: ProcessTree): void {
  const stopped = stopAll(libc, tree)
  const isAlone = stopped.length === 1
  for (const process of stopped) if (process.pid !== tree.root || isAlone) send(libc, process, 'SIGKILL')
  const root = stopped.find(({ pid }) => pid === tree.root)
  if (root) send(libc, root, 'SIGCONT')
}

/**
 * Kills a process, unless it has ended, and everything below it, likewise. @param held see {@link ProcessTree}.
 * @returns those that it has killed, which may take a moment to end.
 */
export function killTree(libc: Libc, root: ProcessIdentity, held: readonly string[]): ProcessIdentity[] {
  if (!isAlive(root, readBootId())) return []
  // It must not go on for a moment, in which it could start others.
  const stopped = stopAll(libc, { root: root.pid, held: new Set(held) })
  for (const process of stopped) send(libc, process, 'SIGKILL')
  return stopped
}

function stopAll(libc: Libc, tree: ProcessTree): ProcessIdentity[] {
  const bootId = readBootId()
  const stopped: Found = new Map()
  const all: ProcessIdentity[] = []
  for (let round = 0; round < MAX_ROUNDS; round++) {
    // To look at all processes takes long where there are many.
    const found = fresh(stopped, descendants(tree.root)) ?? fresh(stopped, members(tree))
    if (!found) break
    for (const [pid, stat] of found) {
      const process = { pid, startTime: stat.startTime, bootId }
      send(libc, process, 'SIGSTOP')
      stopped.set(pid, stat)
      all.push(process)
    }
  }
  return all
}

function send(libc: Libc, process: ProcessIdentity, signal: 'SIGSTOP' | 'SIGKILL' | 'SIGCONT'): void {
  signalProcess(libc, process, process.bootId, signal)
}

/** The pipes that a process has as its standard input and outputs. */
export function heldPipes(pid: number): string[] {
  return [0, 1, 2].map((fd) => linkOf(pid, fd)).filter((link) => link.startsWith('pipe:'))
}

/** What a process has as its standard input and outputs and others do not, unless they belong to it: pipes, a terminal. */
export function heldStreams(pid: number): string[] {
  const terminals = [0, 1, 2].flatMap((fd) => {
    const number = terminalNumber(linkOf(pid, fd))
    const device = number === undefined ? undefined : deviceOf(pid, fd)
    return device === undefined ? [] : [`${device}:${number}`]
  })
  return [...heldPipes(pid), ...terminals]
}

function fresh(known: Found, found: Found): Found | undefined {
  const rest = [...found].filter(([pid, { startTime }]) => known.get(pid)?.startTime !== startTime)
  return rest.length > 0 ? new Map(rest) : undefined
}

/** Down the tree; kernels without CONFIG_PROC_CHILDREN show only its root. */
function descendants(root: number): Found {
  const found: Found = new Map()
  const pids = [root]
  for (let pid = pids.pop(); pid !== undefined; pid = pids.pop()) {
    const stat = readStat(pid)
    if (!stat || found.has(pid)) continue
    found.set(pid, stat)
    pids.push(...childrenOf(pid))
  }
  return found
}

function childrenOf(pid: number): number[] {
  try {
    const threads = readdirSync(`/proc/${pid}/task`)
    const lists = threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1'))
    return lists.flatMap((list) => list.split(' ').filter((child) => child !== '')).map(Number)
  } catch {
    // It has ended, or the kernel does not say.
    return []
  }
}

function members({ root, held }: ProcessTree): Found {
  const all: Found = new Map()
  for (const pid of listPids()) {
    const stat = pid === process.pid ? null : readStat(pid)
    if (stat) all.set(pid, stat)
  }
  const found: Found = new Map([...all].filter(([pid]) => holdsAny(pid, held)))
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

function holdsAny(pid: number, held: ReadonlySet<string>): boolean {
  return [0, 1, 2].some((fd) => {
    const link = linkOf(pid, fd)
    if (held.has(link)) return true
    // Every instance of devpts counts from 0. Nothing else is asked for: it could be on a server that is gone.
    const number = terminalNumber(link)
    if (number === undefined) return false
    const device = deviceOf(pid, fd)
    return device !== undefined && held.has(`${device}:${number}`)
  })
}

function terminalNumber(link: string): string | undefined {
  return /^(?:\/dev\/pts)?\/(\d+)$/.exec(link)?.[1]
}

/** Undefined when the process is gone, which the kernel tells in several ways. */
function deviceOf(pid: number, fd: number): number | undefined {
  try {
    return statSync(`/proc/${pid}/fd/${fd}`).dev
  } catch {
    return undefined
  }
}

/** `''` when it is not open, or the process is gone. */
function linkOf(pid: number, fd: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`)
  } catch {
    return ''
  }
}
