import { access, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { sleep, waitFor } from '../core/deadline.ts'
import { CodedError, errnoOf, errorCode, errorMessage } from '../core/errors.ts'
import { readCgroupMode } from '../host/cgroup/cgroup-mode.ts'
import { CgroupMoves } from '../host/cgroup/cgroup-moves.ts'
import {
  cgroupMounts,
  freezeCgroup,
  killCgroup,
  liftCpuQuota,
  oomKills,
  removeCgroup,
  thawCgroup,
} from '../host/cgroup/cgroup.ts'
import type { Descriptors } from '../host/descriptors.ts'
import { makeDirectory, readTextIfAny, removeFile, removeTree } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import { ExecError } from '../host/programs/outcome.ts'
import {
  cgroupsOf,
  commandLine,
  identifyProcess,
  isAlive,
  listPids,
  type ProcessIdentity,
  signalProcess,
} from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import type { Relay } from '../host/relay/relay.ts'
import { ociJson } from '../oci/json.ts'
import type { Resources } from '../oci/spec.ts'
import { Attachments } from './attach/attachments.ts'
import type { ContainerLogs } from './attach/logs.ts'
import { cgroupDirectory, limitsDirectory } from './cgroup-directory.ts'
import { CgroupParents } from './cgroup-parents.ts'
import { Criu, criuErrors } from './criu.ts'
import { Execs } from './exec/execs.ts'
import type { ExitWatch } from './exit-watch.ts'
import { readFeatures } from './features.ts'
import { killLeftExecs } from './exec/left-execs.ts'
import { prepareLog, reopenLog } from './log-file.ts'
import {
  CONTAINER_PIDFILE,
  findMonitor,
  isMonitorOf,
  MONITOR_PIDFILE,
  monitorArguments,
  monitorEnvironment,
} from './monitor.ts'
import { runtimeMessage } from './runtime-message.ts'
import { startByFifo } from './start-fifo.ts'
import type {
  AttachRequest,
  ContainerIo,
  ContainerRecord,
  ExecOutput,
  ExecRequest,
  ExitStatus,
  OciRuntime,
  ProcessStreams,
  StreamedExecRequest,
  RuntimeFeatures,
} from './types.ts'

/** conmon makes it in its working directory when memory ran out in the container's cgroup. */
const OOM_FILE = 'oom'
/** SIGKILL, as shells count it. */
const KILLED = 128 + 9
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000
const RESEND_MS = 100

export interface ConmonOptions {
  readonly conmonPath: string
  /** Where conmon writes exit statuses; the same directory that the exit watch looks at. */
  readonly exitsDir: string
  readonly runtimeTimeoutMs: number
  readonly bootId: string
  /** Where criu is, for checkpoints. */
  readonly criuPath: string
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
  readonly #execs: Execs
  readonly #criu: Criu
  readonly #attachments: Attachments
  readonly #cgroupMounts = cgroupMounts()
  readonly #moves = new CgroupMoves()
  readonly #parents = new CgroupParents(this.#cgroupMounts)
  readonly #features = new Map<string, Promise<RuntimeFeatures>>()

  constructor(
    options: ConmonOptions,
    deps: {
      libc: Libc
      programs: Programs
      exits: ExitWatch
      logs: ContainerLogs
      relay: Relay
      descriptors: Descriptors
    },
  ) {
    this.#options = options
    this.#libc = deps.libc
    this.#programs = deps.programs
    this.#exits = deps.exits
    this.#criu = new Criu({ path: options.criuPath }, deps)
    this.#execs = new Execs({ conmonPath: options.conmonPath }, deps)
    this.#attachments = new Attachments(deps)
  }

  /** A record for a new container. Nothing is made yet. */
  async plan(request: {
    id: string
    runtime: OciRuntime
    bundleDir: string
    cgroupsPath: string
    hasUserns?: boolean
  }): Promise<ContainerRecord> {
    this.#moves.quicken()
    // With systemd the slices above are systemd's own business.
    if (request.runtime.systemdCgroup) {
      return { ...request, ownedCgroupParents: [], sliceOomKills: await this.#sliceOomKills(request) }
    }
    return { ...request, ownedCgroupParents: await this.#parents.plan(request.id, request.cgroupsPath) }
  }

  /** Takes note of a container that is on record: to be called for each before any is deleted. */
  adopt(record: ContainerRecord): void {
    this.#parents.adopt(record)
  }

  /**
   * Makes sure that there can be a log.
   * @throws CodedError `FailedPrecondition` or `InvalidArgument` for a log path that cannot be used.
   */
  async prepareLog(io: ContainerIo | undefined, signal: AbortSignal): Promise<void> {
    if (io?.logPath) await prepareLog(this.#programs, io.logPath, io.logRoot ?? '', signal)
  }

  /**
   * Creates the container; its process exists and waits. The bundle directory holds config.json.
   *
   * @param io what becomes of its input and output; without it, there is none of either.
   * @param logReady {@link prepareLog}, where that was begun before.
   * @throws CodedError `Internal` with what the runtime said; `delete` then clears up what there may be.
   */
  async create(
    record: ContainerRecord,
    signal: AbortSignal,
    io?: ContainerIo,
    logReady: Promise<void> = this.prepareLog(io, signal),
  ): Promise<ProcessIdentity> {
    await logReady
    const { id, bundleDir } = record
    const args = monitorArguments(record, this.#options.exitsDir, io)
    const answer = await this.#programs.launchMonitor(this.#options.conmonPath, args, {
      cwd: bundleDir,
      env: monitorEnvironment(record, io),
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
    if (!(await hasHooks(record)) && (await startByFifo(join(record.runtime.root, record.id)))) return
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

  /** Sends a signal, once, to this very process; one that has ended is success. */
  kill(process: ProcessIdentity, signalName: StopSignal | number): void {
    signalProcess(this.#libc, process, this.#options.bootId, signalName)
  }

  /** Whether the process ends, or has ended, within this time. */
  async awaitEnd(process: ProcessIdentity, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    return this.#ends(process, timeoutMs, signal)
  }

  /**
   * Kills everything in the container's cgroup, and nothing else, and returns when that is empty.
   * @throws CodedError `FailedPrecondition` when something in it cannot be killed.
   */
  async killAll(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    await killCgroup(this.#cgroupMounts, cgroupDirectory(record), signal)
  }

  /**
   * Runs a command in the container, as its own user and with its own environment, and returns when that has ended; what
   * it left in the background lives on. More output than is kept is read and dropped.
   *
   * @throws CodedError `FailedPrecondition` when the container does not run, `DeadlineExceeded` at the timeout (then all
   * processes of the command have been killed, as on abort), `Internal` with the runtime's words when the command
   * cannot be started (there is no such program, for instance).
   */
  async execSync(record: ContainerRecord, request: ExecRequest, signal: AbortSignal): Promise<ExecOutput> {
    return this.#execs.run(record, request, async () => (await this.findProcess(record)) !== null, signal)
  }

  /**
   * Runs a command in the container for a client that talks to it. On abort all its processes are killed; what it leaves in
   * the background when it ends lives on.
   *
   * @throws CodedError as {@link ConmonExecutor.execSync} does, here or as what its `ended` is rejected with.
   */
  async exec(record: ContainerRecord, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#execs.stream(record, request, async () => (await this.findProcess(record)) !== null, signal)
  }

  /**
   * Kills what an earlier daemon has left of commands in a running container: nobody talks to them any more. To be called
   * before the first exec in it.
   */
  async killLeftExecs(record: ContainerRecord, process: ProcessIdentity): Promise<void> {
    await killLeftExecs(record, process, { libc: this.#libc })
  }

  /**
   * The streams of the container's first process, from now on, for one of any number of clients.
   * @throws CodedError `FailedPrecondition` when the container does not run.
   */
  async attach(record: ContainerRecord, request: AttachRequest, signal: AbortSignal): Promise<ProcessStreams> {
    const { process } = request
    const monitor = await findMonitor(record, this.#options.bootId)
    if (!monitor || !isAlive(process, this.#options.bootId)) {
      const what = monitor ? 'its process' : 'its monitor'
      throw new CodedError('FailedPrecondition', `attach to container ${record.id}: ${what} has ended`)
    }
    const wait = (until: AbortSignal): Promise<ExitStatus> => this.wait(record, process, until)
    return this.#attachments.attach({ record, monitorPid: monitor.pid, wait }, request, signal)
  }

  /**
   * Whether the kernel killed the container's first process for want of memory: it was killed by SIGKILL, and an
   * out-of-memory kill was counted in its cgroup. To be asked after it has ended and before `delete`.
   */
  async oomKilled(record: ContainerRecord, exit: ExitStatus): Promise<boolean> {
    if (exit.code !== KILLED) return false
    const kills = await oomKills(this.#cgroupMounts, cgroupDirectory(record))
    if (kills !== undefined) return kills > 0
    // systemd takes the cgroup away when the last process has ended, at times before the monitor has looked into it: then
    // the slice tells, which on v2 counts what is below it. Neither tells who was killed.
    if (!(await isMissing(join(record.bundleDir, OOM_FILE)))) return true
    const { sliceOomKills } = record
    return sliceOomKills !== undefined && (await this.#sliceOomKills(record)) > sliceOomKills
  }

  /**
   * Lets the monitor go on in a new log at the same path, after somebody has renamed the old one. Where nobody has, nothing
   * is done. Returns when the new one is there.
   * @throws CodedError `FailedPrecondition` when the monitor has ended.
   */
  async reopenLog(record: ContainerRecord, logPath: string, signal: AbortSignal): Promise<void> {
    const monitor = await findMonitor(record, this.#options.bootId)
    if (!monitor)
      throw new CodedError('FailedPrecondition', `reopen log of container ${record.id}: its monitor has ended`)
    await reopenLog(this.#programs, { bundleDir: record.bundleDir, monitor, path: logPath }, signal)
  }

  /**
   * Changes the limits of the container's cgroup; what is not given stays.
   * @throws CodedError `Internal` with what the runtime said.
   */
  async update(record: ContainerRecord, resources: Resources, signal: AbortSignal): Promise<void> {
    const { quota, ...cpu } = resources.cpu ?? {}
    // crun writes -1 as an unsigned number on v1, which the kernel refuses, and on v2 only together with a period.
    const isLifted = quota !== undefined && quota < 0n && basename(record.runtime.path) === 'crun'
    const file = join(record.bundleDir, 'resources.json')
    await writeFile(file, ociJson(isLifted ? { ...resources, cpu } : resources), { mode: 0o600 })
    await this.#runtime(record, ['update', '--resources', file, record.id], signal)
    if (!isLifted) return
    await liftCpuQuota(this.#cgroupMounts, limitsDirectory(record, readCgroupMode() === 'v2'))
  }

  /**
   * Makes sure that containers of this runtime can be checkpointed and restored on this node.
   * @throws CodedError `FailedPrecondition` that says what cannot: the runtime, criu or the kernel.
   */
  async checkCheckpoints(runtimePath: string, what: string, signal: AbortSignal): Promise<void> {
    if (!(await this.runtimeFeatures(runtimePath, signal)).checkpoint) {
      throw new CodedError('FailedPrecondition', `${what}: ${runtimePath} was built without criu`)
    }
    await this.#criu.check(what, signal)
  }

  /** Lets no process of the container run, until {@link thaw}. @throws CodedError as `freezeCgroup`. */
  async freeze(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    await freezeCgroup(this.#cgroupMounts, cgroupDirectory(record), signal)
  }

  /** Lets the processes of the container run. Doing so already is success, and so is not being there. */
  async thaw(record: ContainerRecord): Promise<void> {
    await thawCgroup(this.#cgroupMounts, cgroupDirectory(record))
  }

  /**
   * Writes the state of all processes of the container, which may be frozen, into a directory, with criu. They go on.
   * @throws CodedError `FailedPrecondition` with what the runtime and criu said, of a container whose state cannot be
   * saved for instance.
   */
  async checkpoint(
    record: ContainerRecord,
    request: { readonly imageDir: string; readonly workDir: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { imageDir, workDir, timeoutMs } = request
    await Promise.all([makeDirectory(imageDir), makeDirectory(workDir)])
    const args = ['checkpoint', '--image-path', imageDir, '--work-path', workDir, '--leave-running', record.id]
    try {
      await this.#runtime(record, args, signal, timeoutMs, this.#criu.env)
    } catch (error) {
      if (errorCode(error) !== 'Internal') throw error
      const errors = await criuErrors(workDir, 'dump.log')
      const why = `checkpoint container ${record.id}: ${errors || errorMessage(error)}`
      throw new CodedError('FailedPrecondition', why, { cause: error })
    }
  }

  /**
   * Makes the container with processes in the state that {@link checkpoint} has written; they run when this returns.
   * The bundle directory holds config.json.
   *
   * @throws CodedError `FailedPrecondition` with what the runtime and criu said; `delete` then clears up.
   */
  async restore(
    record: ContainerRecord,
    request: { readonly imageDir: string; readonly io: ContainerIo; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ProcessIdentity> {
    const { imageDir, io, timeoutMs } = request
    const { id, bundleDir } = record
    const args = [...monitorArguments(record, this.#options.exitsDir, io), '--restore', imageDir]
    const env = { ...monitorEnvironment(record, io), ...this.#criu.env }
    const options = { cwd: bundleDir, env, timeoutMs, signal }
    try {
      const pid = parseAnswer(await this.#programs.launchMonitor(this.#options.conmonPath, args, options), record)
      const process = identifyProcess(pid, this.#options.bootId)
      if (!process) throw new CodedError('Internal', `its process ${pid} ended at once`)
      // criu can put it where the checkpointed one was, with the limits of that, or with none.
      const cgroups = [...(await cgroupsOf(pid)).values()]
      if (cgroups.some((path) => path.includes(id))) return process
      signalProcess(this.#libc, process, this.#options.bootId, 'SIGKILL')
      throw new CodedError('Internal', `its process ${pid} came to be in the cgroup ${cgroups.join(', ')}`)
    } catch (error) {
      if (errorCode(error) !== 'Internal') throw error
      const errors = await criuErrors(bundleDir, 'restore.log')
      const why = `restore container ${id}: ${errors || errorMessage(error)}`
      throw new CodedError('FailedPrecondition', why, { cause: error })
    }
  }

  /** Whether a monitor was ever started for the container. */
  async wasLaunched(record: ContainerRecord): Promise<boolean> {
    if (!(await isMissing(join(record.bundleDir, MONITOR_PIDFILE)))) return true
    return listPids().some((pid) => isMonitorOf(record, pid))
  }

  /** What the runtime can do. It is asked once. @throws CodedError when it cannot be run. */
  async runtimeFeatures(runtimePath: string, signal: AbortSignal): Promise<RuntimeFeatures> {
    let asked = this.#features.get(runtimePath)
    if (!asked) {
      asked = readFeatures(this.#programs, runtimePath)
      this.#features.set(runtimePath, asked)
      asked.catch(() => this.#features.delete(runtimePath))
    }
    return waitFor(asked, signal)
  }

  /** Resolves when the process has ended, also when it did so while nobody was looking. */
  async wait(record: ContainerRecord, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus> {
    const monitor = await findMonitor(record, this.#options.bootId)
    // What is left of the container can keep the monitor reading its output for ever.
    const onLinger = (): Promise<void> => this.killAll(record, signal)
    return this.#exits.wait({ id: record.id, process, monitor, onLinger }, signal)
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
    await this.#parents.release(record)
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

  async #sliceOomKills(record: Pick<ContainerRecord, 'runtime' | 'cgroupsPath'>): Promise<number> {
    return (await oomKills(this.#cgroupMounts, dirname(cgroupDirectory(record)))) ?? 0
  }

  async #ends(process: ProcessIdentity, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    const end = performance.now() + timeoutMs
    for (let pause = 1; isAlive(process, this.#options.bootId); pause = Math.min(pause * 2, 50)) {
      const left = end - performance.now()
      if (left <= 0) return false
      await sleep(Math.min(pause, left), signal)
    }
    return true
  }

  async #deleteAtRuntime(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const stateDir = join(record.runtime.root, record.id)
    if (await isMissing(stateDir)) return
    // The cgroup is removed by the caller.
    if (await isDeletedByHand(record, stateDir)) return removeTree(stateDir)
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
    const identity = await findMonitor(record, this.#options.bootId)
    if (!identity) return
    if (await this.#ends(identity, 1000, signal)) return
    signalProcess(this.#libc, identity, this.#options.bootId, 'SIGKILL')
    await this.#ends(identity, KILL_MS, signal)
  }

  /** @throws CodedError `Internal` with what the runtime said, `FailedPrecondition` when the container does not run. */
  async #runtime(
    record: ContainerRecord,
    args: readonly string[],
    signal: AbortSignal,
    timeoutMs = this.#options.runtimeTimeoutMs,
    env: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const { path, root, systemdCgroup } = record.runtime
    const all = ['--root', root, ...(systemdCgroup ? ['--systemd-cgroup'] : []), ...args]
    const result = await this.#programs.run(path, all, { env, timeoutMs, signal })
    if (result.exitCode === 0) return
    const why = runtimeMessage(result.stderr || result.stdout) || `exit code ${result.exitCode}`
    throw new ExecError('Internal', `${path} ${args.join(' ')}: ${why}`, {
      exitCode: result.exitCode,
      stderr: result.stderr,
    })
  }
}

export type StopSignal = Parameters<typeof signalProcess>[3]

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

/**
 * Whether what `delete` of the runtime does can be done without it: crun keeps a file `status`, and of a container
 * without hooks nothing but that directory and the cgroup. It saves a process with every pod.
 */
async function isDeletedByHand(record: ContainerRecord, stateDir: string): Promise<boolean> {
  const { runtime } = record
  if (runtime.systemdCgroup || basename(runtime.path) !== 'crun' || (await hasHooks(record))) return false
  return !(await isMissing(join(stateDir, 'status')))
}

/** Whether the runtime has to run hooks when the container starts and ends. A mention of them is taken for one. */
async function hasHooks(record: ContainerRecord): Promise<boolean> {
  return (await readTextIfAny(join(record.bundleDir, 'config.json')))?.includes('"hooks"') ?? false
}

async function isMissing(path: string): Promise<boolean> {
  return access(path).then(
    () => false,
    (error: unknown) => errnoOf(error) === 'ENOENT',
  )
}
