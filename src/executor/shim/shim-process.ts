import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import {
  commandLine,
  identifyProcess,
  isAlive,
  isTrusted,
  listPids,
  type ProcessIdentity,
  readStat,
} from '../../host/process.ts'
import type { ShimRecord } from './types.ts'

/**
 * The processes of a shim, by their command line: the shim, and what starts it as long as that runs. Found whether or not
 * anybody wrote them down.
 */
export function findShimProcesses(record: ShimRecord, bootId: string): ProcessIdentity[] {
  return listPids()
    .filter((pid) => isShimOf(record, pid))
    .flatMap((pid) => identifyProcess(pid, bootId) ?? [])
    .filter((process) => isAlive(process, bootId))
}

/** Whether this very process is the shim: by a command line that can be believed. Its program may have been replaced. */
export function isShimOf({ id, namespace, ownerAddress }: ShimRecord, pid: number): boolean {
  const args = commandLine(pid)
  const has = (flag: string, value: string): boolean =>
    args.some((arg, index) => (arg === flag || arg === `-${flag}`) && args[index + 1] === value)
  const isNamed = has('-id', id) && has('-namespace', namespace) && has('-address', ownerAddress)
  return isNamed && isTrusted(pid, dirname(ownerAddress))
}

/** A shim as its process tells of itself. */
export interface FoundShim {
  readonly id: string
  readonly namespace: string
  readonly pid: number
  /** The program that it runs. */
  readonly binary: string
}

/** All shims with this owner address, a socket in a directory of ours. */
export function listShims(ownerAddress: string): FoundShim[] {
  return listPids().flatMap((pid) => {
    const args = commandLine(pid)
    const valueOf = (flag: string): string => (args.includes(flag) ? (args[args.indexOf(flag) + 1] ?? '') : '')
    if (valueOf('-address') !== ownerAddress || valueOf('-id') === '') return []
    if (!isTrusted(pid, dirname(ownerAddress))) return []
    return [{ id: valueOf('-id'), namespace: valueOf('-namespace'), pid, binary: programOf(pid) }]
  })
}

/** As the link of a program that was replaced meanwhile says, too. */
function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '')
  } catch {
    return '/'
  }
}

/** The processes whose parent it is, zombies among them: the first processes of its tasks, and others. */
export function childrenOf(pid: number, bootId: string): ProcessIdentity[] {
  return childPids(pid).flatMap((child) => identifyProcess(child, bootId) ?? [])
}

/** Each thread has the list of its own; a kernel that has none of these is asked for all processes. */
function childPids(pid: number): number[] {
  try {
    const threads = readdirSync(`/proc/${pid}/task`)
    const texts = threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1'))
    return texts.flatMap((text) => text.split(' ').filter((word) => word !== '')).map(Number)
  } catch {
    return listPids().filter((candidate) => readStat(candidate)?.parentPid === pid)
  }
}
