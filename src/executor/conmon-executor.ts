import { writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { CodedError } from '../core/errors.ts'
import type { Observer } from '../core/observer.ts'
import { readCgroupMode } from '../host/cgroup/cgroup-mode.ts'
import { CgroupMoves } from '../host/cgroup/cgroup-moves.ts'
import { cgroupMounts, killCgroup, liftCpuQuota, oomKills } from '../host/cgroup/cgroup.ts'
import type { Descriptors } from '../host/descriptors.ts'
import { isMissing } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import { identifyProcess, isAlive, type ProcessIdentity, signalProcess } from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import type { Relay } from '../host/relay/relay.ts'
import { ociJson } from '../oci/json.ts'
import type { Resources } from '../oci/spec.ts'
import { Attachments } from './attach/attachments.ts'
import type { ContainerLogs } from './attach/logs.ts'
import { cgroupDirectory, limitsDirectory } from './cgroup-directory.ts'
import { CgroupParents } from './cgroup-parents.ts'
import { endsWithin, findContainerProcess } from './container-process.ts'
import { Execs } from './exec/execs.ts'
import { killLeftExecs } from './exec/left-execs.ts'
import type { ExitWatch } from './exit-watch.ts'
import { prepareLog, reopenLog } from './log-file.ts'
import {
  findMonitor,
  type FoundMonitor,
  listMonitors,
  monitorAnswer,
  monitorArguments,
  monitorEnvironment,
} from './monitor.ts'
import { ProcessCheckpoints } from './process-checkpoints.ts'
import { hasHooks, Removal } from './removal.ts'
import { RuntimeCommands } from './runtime-commands.ts'
import { startByFifo, startedAtNs } from './start-fifo.ts'
import type {
  AttachRequest,
  ContainerIo,
  ContainerRecord,
  ExecOutput,
  ExecRequest,
  Executor,
  ExitStatus,
  OciRuntime,
  ProcessStreams,
  RuntimeFeatures,
  StreamedExecRequest,
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
export class ConmonExecutor implements Executor<ContainerRecord> {
  readonly checkpoints: ProcessCheckpoints
  readonly #options: ConmonOptions
  readonly #libc: Libc
  readonly #programs: Programs
  readonly #exits: ExitWatch
  readonly #execs: Execs
  readonly #runtimes: RuntimeCommands
  readonly #removal: Removal
  readonly #attachments: Attachments
  readonly #cgroupMounts = cgroupMounts()
  readonly #moves = new CgroupMoves()
  readonly #parents = new CgroupParents(this.#cgroupMounts)

  constructor(
    options: ConmonOptions,
    deps: {
      libc: Libc
      programs: Programs
      exits: ExitWatch
      logs: ContainerLogs
      relay: Relay
      descriptors: Descriptors
      observer?: Observer
    },
  ) {
    this.#options = options
    this.#libc = deps.libc
    this.#programs = deps.programs
    this.#exits = deps.exits
    this.#runtimes = new RuntimeCommands({ timeoutMs: options.runtimeTimeoutMs }, deps)
    const more = { ...deps, runtimes: this.#runtimes, parents: this.#parents, cgroupMounts: this.#cgroupMounts }
    this.#removal = new Removal(options, more)
    this.checkpoints = new ProcessCheckpoints(options, more)
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
   * Makes sure that there can be a log, and tells the device that it is on; empty where none is wanted.
   * @throws CodedError `FailedPrecondition` or `InvalidArgument` for a log path that cannot be used.
   */
  async prepareLog(io: ContainerIo | undefined, signal: AbortSignal): Promise<string> {
    return io?.logPath ? prepareLog(this.#programs, io.logPath, io.logRoot ?? '', signal) : ''
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
    logReady: Promise<string> = this.prepareLog(io, signal),
  ): Promise<ProcessIdentity> {
    await logReady
    const { id, bundleDir } = record
    const args = monitorArguments(record, this.#options.exitsDir, io)
    const answer = await this.#runtimes.observed(record, 'create', () =>
      this.#programs.launchMonitor(this.#options.conmonPath, args, {
        cwd: bundleDir,
        env: monitorEnvironment(record, io),
        timeoutMs: this.#options.runtimeTimeoutMs,
        signal,
      }),
    )
    const pid = monitorAnswer(answer, record)
    const process = identifyProcess(pid, this.#options.bootId)
    if (!process) throw new CodedError('Internal', `create container ${id}: its process ${pid} ended at once`)
    return process
  }

  /** Lets the process of a created container run its program. */
  async start(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    if (!(await hasHooks(record)) && (await startByFifo(join(record.runtime.root, record.id)))) return
    await this.#runtimes.run(record, ['start', record.id], signal)
  }

  /** Told by what the runtime has taken away when it let the process go: the FIFO at which that waits. */
  async startedAtNs(record: ContainerRecord): Promise<bigint | null> {
    return startedAtNs(join(record.runtime.root, record.id))
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
    const { bootId } = this.#options
    const end = performance.now() + options.graceMs
    for (let left = options.graceMs; left > 0; left = end - performance.now()) {
      signalProcess(this.#libc, process, bootId, options.stopSignal)
      if (await endsWithin(process, bootId, Math.min(left, RESEND_MS), signal)) return
    }
    signalProcess(this.#libc, process, bootId, 'SIGKILL')
    if (await endsWithin(process, bootId, KILL_MS, signal)) return
    throw new CodedError(
      'FailedPrecondition',
      `stop process ${process.pid}: it is still there ${KILL_MS} ms after SIGKILL`,
    )
  }

  async kill(_record: ContainerRecord, process: ProcessIdentity, signalName: StopSignal | number): Promise<void> {
    signalProcess(this.#libc, process, this.#options.bootId, signalName)
  }

  async isAlive(_record: ContainerRecord, process: ProcessIdentity): Promise<boolean> {
    return isAlive(process, this.#options.bootId)
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
    await this.#runtimes.run(record, ['update', '--resources', file, record.id], signal)
    if (!isLifted) return
    await liftCpuQuota(this.#cgroupMounts, limitsDirectory(record, readCgroupMode() === 'v2'))
  }

  /** See {@link RuntimeCommands.features}. */
  async runtimeFeatures(runtimePath: string, signal: AbortSignal): Promise<RuntimeFeatures> {
    return this.#runtimes.features(runtimePath, signal)
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
    return findContainerProcess(record, this.#options.bootId)
  }

  /**
   * Ends whatever runs of the container and removes all of it: process, monitor, runtime state, cgroup, exit status.
   * The bundle directory stays. Nothing there is success, and so is a runtime that has been uninstalled.
   */
  async delete(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    await this.#removal.delete(record, signal)
  }

  /** The containers whose monitors run and write to our exits directory. */
  listOwned(): readonly FoundMonitor[] {
    return listMonitors(this.#options.exitsDir)
  }

  async #sliceOomKills(record: Pick<ContainerRecord, 'runtime' | 'cgroupsPath'>): Promise<number> {
    return (await oomKills(this.#cgroupMounts, dirname(cgroupDirectory(record)))) ?? 0
  }
}

export type StopSignal = Parameters<typeof signalProcess>[3]
