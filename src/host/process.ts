import { closeSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { type Libc, SyscallError } from './libc.ts'

const SETUID = 0o4000

/** One process for all time: a pid alone is used again. */
export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks after boot, from field 22 of `/proc/PID/stat`, as text. */
  readonly startTime: string
  readonly bootId: string
}

/** What `/proc/PID/stat` says of a process. */
export interface ProcessStat {
  /** One letter of proc(5): `R`, `S`, `D`, `Z`, … */
  readonly state: string
  readonly parentPid: number
  readonly session: number
  readonly startTime: string
}

/** Reads `/proc/PID/stat`, or null when there is no such process. Takes microseconds: procfs does not block. */
export function readStat(pid: number): ProcessStat | null {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return null
  }
  // The command name may hold spaces and brackets: fields are counted from the last bracket.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return {
    state: fields[0] ?? '',
    parentPid: Number(fields[1]),
    session: Number(fields[3]),
    startTime: fields[19] ?? '',
  }
}

/** The kernel's id of the current boot. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
}

/** Who has this pid now, or null when nobody has. */
export function identifyProcess(pid: number, bootId: string): ProcessIdentity | null {
  const stat = readStat(pid)
  return stat && { pid, startTime: stat.startTime, bootId }
}

/** Whether this very process runs. A zombie does not. */
export function isAlive(process: ProcessIdentity, bootId: string): boolean {
  if (process.bootId !== bootId) return false
  const stat = readStat(process.pid)
  return stat !== null && stat.startTime === process.startTime && stat.state !== 'Z' && stat.state !== 'X'
}

/** Sends a signal to this very process; one that is gone, or whose pid another has, gets none. */
export function signalProcess(
  libc: Libc,
  process: ProcessIdentity,
  bootId: string,
  signal: keyof typeof constants.signals | number,
): void {
  if (!isAlive(process, bootId)) return
  let pidfd: number
  try {
    pidfd = libc.pidfdOpen(process.pid)
  } catch (error) {
    if (error instanceof SyscallError && error.errno === 'ESRCH') return
    throw error
  }
  try {
    // Checked again: the pid may have changed hands before the descriptor was opened, but not after.
    if (isAlive(process, bootId))
      libc.pidfdSendSignal(pidfd, typeof signal === 'number' ? signal : constants.signals[signal])
  } catch (error) {
    if (!(error instanceof SyscallError && error.errno === 'ESRCH')) throw error
  } finally {
    closeSync(pidfd)
  }
}

/** The command line of a process, or an empty list when it is gone or a kernel thread. */
export function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
  } catch {
    return []
  }
}

/**
 * Whether the command line of a process that names a directory of ours can be believed: it is our user's, no user made it so
 * by a setuid program, and the directory is ours where it runs. Anybody may call himself anything, and in a container another
 * sandboxerd may have all the same paths.
 */
export function isTrusted(pid: number, directory: string): boolean {
  try {
    const [, uids = ''] = /^Uid:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
    if (!uids.split('\t').every((uid) => Number(uid) === process.geteuid?.())) return false
    if ((statSync(`/proc/${pid}/exe`).mode & SETUID) !== 0) return false
    const root = `/proc/${pid}/root`
    // Below another root, links lead where its owner wants.
    return isSameFile(root, '/') && isSameFile(join(root, directory), directory)
  } catch {
    // It has ended, or does not see the directory.
    return false
  }
}

function isSameFile(a: string, b: string): boolean {
  const [one, other] = [a, b].map((path) => statSync(path, { bigint: true }))
  return one?.dev === other?.dev && one?.ino === other?.ino
}

/**
 * The cgroup paths of a process (`/proc/PID/cgroup`), by the number of the hierarchy; empty when it is gone. Unlike other
 * files of /proc this one waits for whoever makes or removes a cgroup anywhere, so that it is not read synchronously.
 */
export async function cgroupsOf(pid: number | 'self'): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '')
  const lines = text.split('\n').filter((line) => line !== '')
  return new Map(lines.map((line) => [line.split(':')[0] ?? '', line.split(':').slice(2).join(':')]))
}

/** The pids of all processes, at the time of the call. */
export function listPids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}
