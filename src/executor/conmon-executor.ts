import { access } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { sleep } from '../core/deadline.ts'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import { CgroupMoves } from '../host/cgroup-moves.ts'
import { cgroupMounts, missingAncestors, removeCgroup, removeCgroupIfEmpty } from '../host/cgroup.ts'
import { readTextIfAny, removeFile, removeTree } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import {
  cgroupsOf,
  commandLine,
  identifyProcess,
  isAlive,
  listPids,
  type ProcessIdentity,
  signalProcess,
} from '../host/process.ts'
import { DEFAULT_CGROUP_PARENT } from '../oci/cgroups-path.ts'
import type { Programs } from '../host/programs.ts'
import type { ExitWatch } from './exit-watch.ts'
import { startByFifo } from './start-fifo.ts'
import type { ContainerRecord, ExitStatus, OciRuntime } from './types.ts'

const CONTAINER_PIDFILE = 'container.pid'
const MONITOR_PIDFILE = 'conmon.pid'
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000
const RESEND_MS = 100

export interface ConmonOptions {
  readonly conmonPath: string
  /** Where conmon writes exit statuses; the same directory that the exit watch looks at. */
  readonly exitsDir: string
  readonly runtimeTimeoutMs: number
  readonly bootId: string
}

/**
 * Runs containers with an OCI runtime under conmon. conmon is the parent of the container's first process, keeps its
 * exit status, and outlives us. Nothing here is remembered: every call works from the record, also after a restart.
 */
export class ConmonExecutor {
  readonly #options: ConmonOptions
  readonly #libc: Libc
  readonly #programs: Programs
  readonly #exits: ExitWatch
  readonly #cgroupMounts = cgroupMounts()
  readonly #moves = new CgroupMoves()
  /** The containers that are, or are about to be, below each cgroup that we have to remove after the last of them. */
  readonly #parentUsers = new Map<string, Set<string>>()

  constructor(options: ConmonOptions, deps: { libc: Libc; programs: Programs; exits: ExitWatch }) {
    this.#options = options
    this.#libc = deps.libc
    this.#programs = deps.programs
    this.#exits = deps.exits
  }

  /** A record for a new container. Nothing is made yet. */
  async plan(request: {
    id: string
    runtime: OciRuntime
    bundleDir: string
    cgroupsPath: string
  }): Promise<ContainerRecord> {
    this.#moves.quicken()
    // With systemd the slices above are systemd's own business.
    const ownedCgroupParents = request.runtime.systemdCgroup
      ? []
      : await missingAncestors(this.#cgroupMounts, request.cgroupsPath)
    // Also ours to remove: the default parent, and what another container of ours made.
    for (const parent of [DEFAULT_CGROUP_PARENT, ...this.#parentUsers.keys()]) {
      if (request.cgroupsPath.startsWith(`${parent}/`) && !ownedCgroupParents.includes(parent)) {
        ownedCgroupParents.push(parent)
      }
    }
    ownedCgroupParents.sort((a, b) => b.length - a.length)
    const record = { ...request, ownedCgroupParents }
    this.adopt(record)
    return record
  }

  /** Takes note of a container that is on record: to be called for each before any is deleted. */
  adopt(record: ContainerRecord): void {
    for (const parent of record.ownedCgroupParents) {
      const users = this.#parentUsers.get(parent) ?? new Set()
      this.#parentUsers.set(parent, users.add(record.id))
    }
  }

  /**
   * Creates the container; its process exists and waits. The bundle directory holds config.json.
   * @throws CodedError `Internal` with what the runtime said; `delete` then clears up what there may be.
   */
  async create(record: ContainerRecord, signal: AbortSignal): Promise<ProcessIdentity> {
    const { id, runtime, bundleDir } = record
    const args = ['--api-version', '1', '--cid', id, '--cuuid', id, '--runtime', runtime.path, '--bundle', bundleDir]
    args.push('--container-pidfile', join(bundleDir, CONTAINER_PIDFILE))
    args.push('--conmon-pidfile', join(bundleDir, MONITOR_PIDFILE))
    args.push('--exit-dir', this.#options.exitsDir, '--full-attach', '--log-path', 'null', '--log-level', 'warning')
    args.push('--runtime-arg', `--root=${runtime.root}`)
    if (runtime.systemdCgroup) args.push('--systemd-cgroup')
    const answer = await this.#programs.launchMonitor(this.#options.conmonPath, args, {
      timeoutMs: this.#options.runtimeTimeoutMs,
      signal,
    })
    const pid = parseAnswer(answer, record)
    const process = identifyProcess(pid, this.#options.bootId)
    if (!process) throw new CodedError('Internal', `create container ${id}: its process ${pid} ended at once`)
    return process
  }

  /** Lets the process of a created container run its program. */
  async start(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    if (await startByFifo(join(record.runtime.root, record.id))) return
    await this.#runtime(record, ['start', record.id], signal)
  }

  /**
   * Sends the stop signal, again every 100 ms since a process that is only just starting may lose it, and SIGKILL after
   * the grace period. Returns when the process has ended; one that has ended already is success.
   * @throws CodedError `FailedPrecondition` when not even SIGKILL ended it.
   */
  async stop(
    process: ProcessIdentity,
    options: { readonly stopSignal: StopSignal; readonly graceMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const end = performance.now() + options.graceMs
    for (let left = options.graceMs; left > 0; left = end - performance.now()) {
      signalProcess(this.#libc, process, this.#options.bootId, options.stopSignal)
      if (await this.#ends(process, Math.min(left, RESEND_MS), signal)) return
    }
    signalProcess(this.#libc, process, this.#options.bootId, 'SIGKILL')
    if (await this.#ends(process, KILL_MS, signal)) return
    throw new CodedError(
      'FailedPrecondition',
      `stop process ${process.pid}: it is still there ${KILL_MS} ms after SIGKILL`,
    )
  }

  /** Resolves when the process has ended, also when it did so while nobody was looking. */
  async wait(record: ContainerRecord, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus> {
    return this.#exits.wait(record.id, process, signal)
  }

  /** The exit status that the monitor has written down, or null. */
  async exitStatus(record: ContainerRecord): Promise<ExitStatus | null> {
    return this.#exits.read(record.id)
  }

  /** The process of the container as its monitor wrote it down, if it still runs and is in the container's cgroup. */
  async findProcess(record: ContainerRecord): Promise<ProcessIdentity | null> {
    const text = await readTextIfAny(join(record.bundleDir, CONTAINER_PIDFILE))
    const pid = Number.parseInt(text ?? '', 10)
    // The pid may be a stranger's by now; the cgroup, which carries the id, tells.
    if (Number.isNaN(pid)) return null
    const cgroups = [...(await cgroupsOf(pid)).values()]
    if (!cgroups.some((path) => path.includes(record.id))) return null
    const process = identifyProcess(pid, this.#options.bootId)
    // One that has ended keeps its pid and cgroup until its parent has asked for it.
    return process && isAlive(process, this.#options.bootId) ? process : null
  }

  /**
   * Ends whatever runs of the container and removes all of it: process, monitor, runtime state, cgroup, exit status.
   * The bundle directory stays. Nothing there is success, and so is a runtime that has been uninstalled.
   */
  async delete(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const process = await this.findProcess(record)
    if (process) signalProcess(this.#libc, process, this.#options.bootId, 'SIGKILL')
    else await this.#killUnfinishedMonitor(record)
    await this.#deleteAtRuntime(record, signal)
    await removeCgroup(this.#cgroupMounts, cgroupDirectory(record), signal)
    await this.#awaitMonitor(record, signal)
    await removeFile(join(this.#options.exitsDir, record.id))
    await this.#releaseParents(record)
  }

  /** The containers whose monitors run and write to our exits directory. */
  listOwned(): { id: string; pid: number }[] {
    return listPids().flatMap((pid) => {
      const args = commandLine(pid)
      if (basename(args[0] ?? '') !== 'conmon' || !args.includes(this.#options.exitsDir)) return []
      const id = args[args.indexOf('--cid') + 1]
      return id === undefined ? [] : [{ id, pid }]
    })
  }

  async #ends(process: ProcessIdentity, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    const end = performance.now() + timeoutMs
    for (let pause = 1; isAlive(process, this.#options.bootId); pause = Math.min(pause * 2, 50)) {
      if (performance.now() >= end) return false
      await sleep(pause, signal)
    }
    return true
  }

  async #deleteAtRuntime(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const stateDir = join(record.runtime.root, record.id)
    if (await isMissing(stateDir)) return
    if (await isDeletedByHand(record, stateDir)) {
      await removeCgroup(this.#cgroupMounts, cgroupDirectory(record), signal)
      return removeTree(stateDir)
    }
    try {
      await this.#runtime(record, ['delete', '--force', record.id], signal)
    } catch (error) {
      signal.throwIfAborted()
      // Without the runtime, or with a state it cannot read: kill by cgroup (the caller does) and drop the state.
      if (await isMissing(stateDir)) return
      await removeCgroup(this.#cgroupMounts, cgroupDirectory(record), signal).catch((cause: unknown) => {
        throw new CodedError('Internal', `delete container ${record.id}: ${errorMessage(error)}`, { cause })
      })
    }
    await removeTree(stateDir)
  }

  /** A monitor that has not written down its container's process may be in the middle of creating it. */
  async #killUnfinishedMonitor(record: ContainerRecord): Promise<void> {
    if (await isMissing(record.bundleDir)) return
    if (!(await isMissing(join(record.bundleDir, CONTAINER_PIDFILE)))) return
    for (const pid of listPids().filter((candidate) => isMonitorOf(record, candidate))) {
      try {
        // conmon leads the session in which it runs the runtime.
        process.kill(-pid, 'SIGKILL')
      } catch {
        // It has ended.
      }
    }
  }

  /** The monitor ends by itself once its container has; one that does not is killed. */
  async #awaitMonitor(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const pid = Number.parseInt((await readTextIfAny(join(record.bundleDir, MONITOR_PIDFILE))) ?? '', 10)
    if (Number.isNaN(pid)) return
    const identity = identifyProcess(pid, this.#options.bootId)
    if (!identity || !isMonitorOf(record, pid)) return
    if (await this.#ends(identity, 1000, signal)) return
    signalProcess(this.#libc, identity, this.#options.bootId, 'SIGKILL')
    await this.#ends(identity, KILL_MS, signal)
  }

  async #releaseParents(record: ContainerRecord): Promise<void> {
    for (const parent of record.ownedCgroupParents) {
      const users = this.#parentUsers.get(parent)
      users?.delete(record.id)
      if (users && users.size > 0) continue
      this.#parentUsers.delete(parent)
      await removeCgroupIfEmpty(this.#cgroupMounts, parent)
    }
  }

  async #runtime(record: ContainerRecord, args: readonly string[], signal: AbortSignal): Promise<void> {
    const { path, root, systemdCgroup } = record.runtime
    const all = ['--root', root, ...(systemdCgroup ? ['--systemd-cgroup'] : []), ...args]
    await this.#programs.runOk(path, all, { timeoutMs: this.#options.runtimeTimeoutMs, signal })
  }
}

export type StopSignal = Parameters<typeof signalProcess>[3]

function isMonitorOf(record: ContainerRecord, pid: number): boolean {
  const args = commandLine(pid)
  return basename(args[0] ?? '') === 'conmon' && args.includes(record.id) && args.includes(record.bundleDir)
}

/** conmon's answer is `{"data": PID}`, or `{"data": -1, "message": "what the runtime said"}`. */
function parseAnswer(answer: string, record: ContainerRecord): number {
  let parsed: { data?: unknown; message?: unknown }
  try {
    parsed = JSON.parse(answer) as typeof parsed
  } catch (error) {
    throw new CodedError('Internal', `create container ${record.id}: conmon answered ${answer}`, { cause: error })
  }
  if (typeof parsed.data === 'number' && parsed.data > 0) return parsed.data
  const why = typeof parsed.message === 'string' ? parsed.message.trim().replaceAll(/\s*\n\s*/g, '; ') : answer
  throw new CodedError('Internal', `create container ${record.id} with ${record.runtime.path}: ${why}`)
}

/** The directory of the container's cgroup below each hierarchy. */
function cgroupDirectory(record: ContainerRecord): string {
  if (!record.runtime.systemdCgroup) return record.cgroupsPath
  const [slice = '', prefix = '', name = ''] = record.cgroupsPath.split(':')
  // a-b.slice lies in a.slice (systemd.slice(5)).
  const parts = slice.replace(/\.slice$/, '').split('-')
  const slices = parts.map((_, index) => `${parts.slice(0, index + 1).join('-')}.slice`)
  return `/${[...slices, `${prefix}-${name}.scope`].join('/')}`
}

/**
 * Whether what `delete` of the runtime does can be done without it: crun keeps a file `status`, and of a container
 * without hooks nothing but that directory and the cgroup. It saves a process with every pod.
 */
async function isDeletedByHand({ runtime }: ContainerRecord, stateDir: string): Promise<boolean> {
  return !runtime.systemdCgroup && basename(runtime.path) === 'crun' && !(await isMissing(join(stateDir, 'status')))
}

async function isMissing(path: string): Promise<boolean> {
  return access(path).then(
    () => false,
    (error: unknown) => errnoOf(error) === 'ENOENT',
  )
}
