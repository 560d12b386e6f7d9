import { setMaxListeners } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { abortReason, deadline, sleep, waitFor } from '../../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { nowNs } from '../../core/now.ts'
import type { StateResponse__Output } from '../../generated/containerd/task/v3/StateResponse.ts'
import type { loadShimApi } from '../../grpc/load.ts'
import { cgroupMounts, killCgroup, removeCgroup } from '../../host/cgroup/cgroup.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import { readTextIfAny, removeFile, removeTree } from '../../host/files.ts'
import type { Libc } from '../../host/libc.ts'
import { isAlive, type ProcessIdentity, signalProcess } from '../../host/process.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { Resources } from '../../oci/spec.ts'
import type { ContainerLogs } from '../attach/logs.ts'
import { taskCgroupDirectory } from '../cgroup-directory.ts'
import { visibleProcess } from '../container-process.ts'
import { prepareLog } from '../log-file.ts'
import type {
  AttachRequest,
  ContainerIo,
  ExecOutput,
  ExecRequest,
  Executor,
  ExitStatus,
  ProcessStreams,
  StreamedExecRequest,
  TaskRecord,
} from '../types.ts'
import { Announcements } from './announcements.ts'
import { ContainerStreams } from './container-streams.ts'
import { execDirectory, listExecs } from './exec-files.ts'
import { OomKills } from './oom-kills.ts'
import { TaskOutputs } from './outputs.ts'
import { attachToTask } from './task-attach.ts'
import { failure, isServiceDead, serviceOf, unlessMissing } from './task-calls.ts'
import { TaskEnds } from './task-ends.ts'
import { TaskExecs } from './task-execs.ts'
import { optionsOf, SIGKILL } from './task-messages.ts'
import { type CgroupMetrics, readMetrics } from './task-metrics.ts'
import { updateTask } from './task-update.ts'
import { TaskWait } from './task-wait.ts'
import type { TaskAnnouncer, TaskCall, TaskEvent, TaskEvents, TaskService, TaskServices } from './types.ts'
import { observedExit } from '../../client/exit.ts'

/** When a container was started, in the bundle directory: nanoseconds since the epoch. */
const STARTED_FILE = 'started'
/** Where a shim of runc writes down the pid of the container's first process. */
const PID_FILE = 'init.pid'
/** From SIGKILL to the end of a container; only a process in uninterruptible sleep takes longer. */
const KILL_MS = 5000
/** A shim waits 10 s for output that nobody reads. */
const DELETE_MS = 20_000
/** From the first `NotFound` to the second, which is believed. */
const CONFIRM_MS = 500

export interface TaskExecutorOptions {
  readonly bootId: string
  /** For containers and commands to be made and started. */
  readonly runtimeTimeoutMs: number
  /** For every other call. */
  readonly callTimeoutMs: number
}

export interface TaskDeps {
  readonly services: TaskServices
  readonly events: TaskEvents
  readonly announcer: TaskAnnouncer
  readonly programs: Programs
  readonly libc: Libc
  readonly descriptors: Descriptors
  readonly logs: ContainerLogs
  readonly api: ReturnType<typeof loadShimApi>
  readonly logger: Logger
}

/**
 * Runs containers at Task services: those of containerd's shims, or what a remote sandboxer offers. The service is the parent
 * of the container's first process, keeps its exit status until `delete`, and outlives us. What is remembered here is only
 * what we have open, and it is opened again by the record and what lies beside config.json.
 */
export class TaskExecutor implements Executor<TaskRecord>, AsyncDisposable {
  readonly #options: TaskExecutorOptions
  readonly #deps: TaskDeps
  readonly #cgroupMounts = cgroupMounts()
  readonly #outputs: TaskOutputs
  readonly #streams: ContainerStreams
  readonly #announcements: Announcements
  readonly #execs: TaskExecs
  readonly #ends: TaskEnds
  readonly #subscription: Disposable
  readonly #never = new AbortController().signal
  /** Calls of Create that are under way: their answer may come when nobody waits for it any more. */
  readonly #creating = new Map<string, Promise<unknown>>()
  readonly #oomKills = new OomKills(this.#cgroupMounts)

  constructor(options: TaskExecutorOptions, deps: TaskDeps) {
    this.#options = options
    this.#deps = deps
    setMaxListeners(0, this.#never)
    const { logger, announcer } = deps
    this.#outputs = new TaskOutputs({ logger })
    const closeIo = async (record: TaskRecord): Promise<void> => {
      await unlessMissing(this.#service(record).closeIo({ id: record.id, stdin: true }, this.#call()))
    }
    this.#streams = new ContainerStreams({ ...deps, outputs: this.#outputs, closeIo })
    this.#announcements = new Announcements({ announcer })
    this.#execs = new TaskExecs(options, { ...deps, announcements: this.#announcements })
    const killAll = (record: TaskRecord, signal: AbortSignal): Promise<void> => this.killAll(record, signal)
    this.#ends = new TaskEnds(options, { ...deps, streams: this.#streams, killAll })
    this.#subscription = deps.events.subscribe((event) => this.#onEvent(event))
  }

  /** Completes the record of a new container. Nothing is made yet. */
  async plan(record: TaskRecord): Promise<TaskRecord> {
    const isInSlice = !record.cgroupsPath.startsWith('/')
    return isInSlice ? { ...record, sliceOomKills: await this.#oomKills.inSlice(record) } : record
  }

  /** Also goes on with the log of one that was made. */
  adopt(record: TaskRecord): void {
    this.#oomKills.know(record)
    this.#announcements.adopt(record)
    this.#streams.of(record).catch((error: unknown) => {
      this.#deps.logger.error({ id: record.id, error: errorMessage(error) }, 'output of a container cannot be read')
    })
  }

  async prepareLog(io: ContainerIo | undefined, signal: AbortSignal): Promise<string> {
    return io?.logPath ? prepareLog(this.#deps.programs, io.logPath, io.logRoot ?? '', signal) : ''
  }

  async create(
    record: TaskRecord,
    signal: AbortSignal,
    io?: ContainerIo,
    logReady: Promise<string> = this.prepareLog(io, signal),
  ): Promise<ProcessIdentity> {
    const { id, bundleDir: bundle } = record
    const held = await this.#streams.make(record, io, await logReady, signal)
    this.#oomKills.know(record)
    await this.#announcements.add(record, signal)
    const call = { timeoutMs: this.#options.runtimeTimeoutMs, signal: this.#never }
    const request = { id, bundle, rootfs: [], ...held.stdio, options: optionsOf(record) }
    const creating = this.#service(record).create(request, call)
    this.#creating.set(id, creating)
    // It is not aborted: `delete` waits for what comes of it.
    creating.catch(() => undefined).finally(() => this.#creating.delete(id))
    try {
      const { pid } = await waitFor(creating, signal)
      held.input?.begun()
      const process = await this.#identify(record, pid)
      held.pid = process.startTime === '' ? 0 : pid
      return process
    } catch (error) {
      if (signal.aborted) throw abortReason(signal)
      const isTheirs = ['Unavailable', 'DeadlineExceeded'].includes(errorCode(error))
      const why = `create container ${id}: ${errorMessage(error)}`
      throw new CodedError(isTheirs ? errorCode(error) : 'Internal', why, { cause: error })
    }
  }

  async start(record: TaskRecord, signal: AbortSignal): Promise<void> {
    const startedAtNs = nowNs()
    try {
      await this.#service(record).start({ id: record.id }, { timeoutMs: this.#options.runtimeTimeoutMs, signal })
    } catch (error) {
      signal.throwIfAborted()
      throw failure(`start container ${record.id}`, error)
    }
    await writeFile(join(record.bundleDir, STARTED_FILE), String(startedAtNs))
  }

  async startedAtNs(record: TaskRecord, _process: ProcessIdentity, signal: AbortSignal): Promise<bigint | null> {
    const text = await readTextIfAny(join(record.bundleDir, STARTED_FILE))
    if (text !== undefined && /^\d+$/.test(text)) return BigInt(text)
    const state = await this.#state(record, signal)
    // Of one that has ended nobody knows whether it ever ran.
    return state && ['RUNNING', 'PAUSED', 'PAUSING'].includes(state.status) ? nowNs() : null
  }

  async kill(
    record: TaskRecord,
    process: ProcessIdentity,
    signalName: NodeJS.Signals | number,
    signal: AbortSignal,
  ): Promise<void> {
    if (process.startTime !== '' && !isAlive(process, this.#options.bootId)) return
    const number = typeof signalName === 'number' ? signalName : constants.signals[signalName]
    try {
      await unlessMissing(this.#service(record).kill({ id: record.id, signal: number, all: false }, this.#call(signal)))
    } catch (error) {
      signal.throwIfAborted()
      const isVisible = process.startTime !== ''
      if (isVisible && !isAlive(process, this.#options.bootId)) return
      if (!isVisible || !(await isServiceDead(record, error))) throw failure(`signal container ${record.id}`, error)
      signalProcess(this.#deps.libc, process, this.#options.bootId, number)
    }
  }

  async killAll(record: TaskRecord, signal: AbortSignal): Promise<void> {
    try {
      if (await this.#killTask(record, signal)) await this.#awaitEnd(record, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (!(await isServiceDead(record, error))) throw failure(`kill container ${record.id}`, error)
    }
    // Without a pid namespace of its own there may be more than the service knows.
    await killCgroup(this.#cgroupMounts, taskCgroupDirectory(record), signal)
  }

  async isAlive(record: TaskRecord, process: ProcessIdentity, signal: AbortSignal): Promise<boolean> {
    const { bootId } = this.#options
    if (process.bootId !== bootId) return false
    if (process.startTime !== '') return isAlive(process, bootId)
    const state = await this.#state(record, signal)
    return state !== null && state.status !== 'STOPPED'
  }

  async findProcess(record: TaskRecord, signal: AbortSignal): Promise<ProcessIdentity | null> {
    let state: StateResponse__Output | null
    try {
      state = await this.#state(record, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (!(await isServiceDead(record, error))) throw error
      const pid = Number.parseInt((await readTextIfAny(join(record.bundleDir, PID_FILE))) ?? '', 10)
      return visibleProcess(record, pid, this.#options.bootId)
    }
    return state && state.status !== 'STOPPED' ? this.#identify(record, state.pid) : null
  }

  /** @throws CodedError `Unavailable` when the service cannot be asked for long and nothing else shows the end. */
  async wait(record: TaskRecord, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus> {
    return this.#ends.wait(record, process, signal)
  }

  async exitStatus(record: TaskRecord, signal: AbortSignal): Promise<ExitStatus | null> {
    try {
      const state = await this.#state(record, signal)
      return state?.status === 'STOPPED' ? observedExit(state.exit_status, state.exited_at) : null
    } catch (error) {
      signal.throwIfAborted()
      if (await isServiceDead(record, error)) return null
      throw error
    }
  }

  async oomKilled(record: TaskRecord, exit: ExitStatus, signal: AbortSignal): Promise<boolean> {
    return this.#oomKills.wasKilled(record, exit, () => this.stats(record, signal))
  }

  async execSync(record: TaskRecord, request: ExecRequest, signal: AbortSignal): Promise<ExecOutput> {
    return this.#execs.run(record, request, () => this.#runs(record), signal)
  }

  async exec(record: TaskRecord, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#execs.stream(record, request, () => this.#runs(record), signal)
  }

  async killLeftExecs(record: TaskRecord): Promise<void> {
    await this.#execs.killLeft(record)
  }

  async attach(record: TaskRecord, request: AttachRequest, signal: AbortSignal): Promise<ProcessStreams> {
    const { id } = record
    if (!(await this.isAlive(record, request.process, signal))) {
      throw new CodedError('FailedPrecondition', `attach to container ${id}: its process has ended`)
    }
    const held = await this.#streams.of(record)
    held.pid = request.process.startTime === '' ? 0 : request.process.pid
    const wait = (until: AbortSignal): Promise<ExitStatus> => this.wait(record, request.process, until)
    const resize = async ({ width, height }: { width: number; height: number }): Promise<void> => {
      await unlessMissing(this.#service(record).resizePty({ id, width, height }, this.#call()))
    }
    const onTrouble = (error: unknown): void =>
      this.#deps.logger.warn({ id, error: errorMessage(error) }, 'terminal of a container cannot be resized')
    return attachToTask(record, held, request, { logs: this.#deps.logs, wait, resize, onTrouble }, signal)
  }

  async reopenLog(record: TaskRecord, logPath: string, signal: AbortSignal): Promise<void> {
    const { output } = await this.#streams.of(record)
    if (!output) {
      throw new CodedError('FailedPrecondition', `reopen log ${logPath} of container ${record.id}: it has no output`)
    }
    await output.reopen(signal)
  }

  async update(record: TaskRecord, resources: Resources, signal: AbortSignal): Promise<void> {
    const deps = { service: this.#service(record), api: this.#deps.api, cgroupMounts: this.#cgroupMounts }
    try {
      await updateTask(record, resources, deps, this.#call(signal))
    } catch (error) {
      signal.throwIfAborted()
      throw failure(`update container ${record.id}`, error)
    }
  }

  /** What the container uses, as its service counts it; null when that says nothing. @throws CodedError of the service. */
  async stats(record: TaskRecord, signal: AbortSignal): Promise<CgroupMetrics | null> {
    const { stats } = await this.#service(record).stats({ id: record.id }, this.#call(signal))
    return readMetrics(stats, this.#deps.api)
  }

  /** @throws CodedError when its service does not answer, and has not ended either. */
  async delete(record: TaskRecord, signal: AbortSignal): Promise<void> {
    await waitFor(this.#creating.get(record.id)?.catch(() => undefined) ?? Promise.resolve(), signal)
    try {
      if (await this.#killTask(record, signal)) {
        await this.#awaitEnd(record, signal)
        await this.#ends.outputOf(record, signal)
      }
      await unlessMissing(this.#service(record).delete({ id: record.id }, { timeoutMs: DELETE_MS, signal }))
    } catch (error) {
      signal.throwIfAborted()
      if (!(await isServiceDead(record, error))) throw failure(`delete container ${record.id}`, error)
    }
    await removeCgroup(this.#cgroupMounts, taskCgroupDirectory(record), signal)
    for (const execId of await listExecs(record.bundleDir)) await removeTree(execDirectory(record.bundleDir, execId))
    await removeFile(join(record.bundleDir, STARTED_FILE))
    await this.#announcements.remove(record, signal)
    await this.discard(record)
  }

  /** Closes and forgets what is remembered here of a container that has gone, however it went. */
  async discard(record: TaskRecord): Promise<void> {
    await this.#streams.remove(record)
    this.#announcements.forget(record)
    this.#ends.forget(record)
    this.#oomKills.forget(record)
  }

  /** What has been read is in the logs; containers go on, and print into their FIFOs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]()
    this.#streams[Symbol.dispose]()
    await this.#outputs[Symbol.asyncDispose]()
  }

  #service(record: TaskRecord): TaskService {
    return serviceOf(this.#deps.services, record)
  }

  #call(signal: AbortSignal = this.#never): TaskCall {
    return { timeoutMs: this.#options.callTimeoutMs, signal }
  }

  #onEvent(event: TaskEvent): void {
    if (event.kind === 'oom') this.#oomKills.told(event.containerId)
    else if (event.processId === event.containerId) this.#ends.wake(event.containerId)
    else this.#execs.wake(event.processId)
  }

  async #runs(record: TaskRecord): Promise<boolean> {
    return (await this.findProcess(record, this.#never)) !== null
  }

  /** One that cannot be seen from here has a pid where it is, and no start time. */
  async #identify(record: TaskRecord, pid: number): Promise<ProcessIdentity> {
    const { bootId } = this.#options
    return (await visibleProcess(record, pid, bootId)) ?? { pid, startTime: '', bootId }
  }

  /** Null for a container that its service does not know: asked twice, since one that starts may not know all yet. */
  async #state(record: TaskRecord, signal: AbortSignal): Promise<StateResponse__Output | null> {
    for (let isAsked = false; ; isAsked = true) {
      try {
        return await this.#service(record).state({ id: record.id }, this.#call(signal))
      } catch (error) {
        if (errorCode(error) !== 'NotFound') throw error
        if (isAsked) return null
        await sleep(CONFIRM_MS, signal)
      }
    }
  }

  /** Sends SIGKILL to all processes of a container. @returns false when there is no such container. */
  async #killTask(record: TaskRecord, signal: AbortSignal): Promise<boolean> {
    const service = this.#service(record)
    const { id } = record
    try {
      return await unlessMissing(service.kill({ id, signal: SIGKILL, all: true }, this.#call(signal)))
    } catch (error) {
      signal.throwIfAborted()
      // Some refuse what has ended in other words.
      const { status } = await service.state({ id }, this.#call(signal)).catch(() => ({ status: null }))
      if (status !== 'STOPPED') throw error
      return true
    }
  }

  async #awaitEnd(record: TaskRecord, signal: AbortSignal): Promise<void> {
    using limit = deadline(`kill container ${record.id}`, KILL_MS, signal)
    const { callTimeoutMs: timeoutMs } = this.#options
    const options = { id: record.id, execId: '', timeoutMs, unreachableMs: timeoutMs, signal: limit.signal }
    const isGone = (error: unknown): Promise<boolean> => isServiceDead(record, error)
    await new TaskWait(options, { service: this.#service(record), isGone }).ended()
  }
}
