import { randomBytes } from 'node:crypto'
import { deadline } from '../../core/deadline.ts'
import { CodedError, errorCode } from '../../core/errors.ts'
import { removeTree } from '../../host/files.ts'
import type { Libc } from '../../host/libc.ts'
import { setOomScore } from '../../host/programs/exec-program.ts'
import { heldStreams, killTree } from '../../host/programs/process-tree.ts'
import { endsWithin, visibleProcess } from '../container-process.ts'
import { containerProcess, processOf } from '../exec/command.ts'
import type { ExitStatus, TaskRecord } from '../types.ts'
import type { Announcements } from './announcements.ts'
import { execDirectory, loadCommand, makeExecDirectory, saveCommand, type StartedCommand } from './exec-files.ts'
import { makeFifos, type Stdio, stdioIn } from './stdio.ts'
import { failure, isServiceDead, unlessMissing } from './task-calls.ts'
import { PROCESS_TYPE, SIGKILL } from './task-messages.ts'
import { TaskWait } from './task-wait.ts'
import type { TaskCall, TaskService } from './types.ts'

/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000
/** A shim waits 10 s for whoever a command has left holding its output. */
const DELETE_MS = 20_000

export interface TaskCommandOptions {
  readonly bootId: string
  /** For a command to be started. */
  readonly runtimeTimeoutMs: number
  /** For every other call. */
  readonly callTimeoutMs: number
}

export interface TaskCommandDeps {
  readonly service: TaskService
  readonly announcements: Announcements
  readonly libc: Libc
}

/** What is to be run. */
export interface TaskCommandRequest {
  readonly command: readonly string[]
  readonly terminal: boolean
  readonly stdin: boolean
}

/** One command in a container, at its Task service. */
export class TaskCommand {
  readonly #options: TaskCommandOptions
  readonly #deps: TaskCommandDeps
  readonly #record: TaskRecord
  readonly #execId: string
  readonly #none = new AbortController()
  readonly stdio: Stdio
  readonly #waits = new Set<TaskWait>()
  #started: StartedCommand | null = null
  #starting: Promise<unknown> = Promise.resolve()

  private constructor(
    of: { readonly record: TaskRecord; readonly execId: string; readonly stdio: Stdio },
    options: TaskCommandOptions,
    deps: TaskCommandDeps,
  ) {
    this.#record = of.record
    this.#execId = of.execId
    this.stdio = of.stdio
    this.#options = options
    this.#deps = deps
  }

  /** Makes its FIFOs, and no command yet. @throws CodedError `FailedPrecondition` when there is no bundle. */
  static async make(
    record: TaskRecord,
    request: TaskCommandRequest,
    options: TaskCommandOptions,
    deps: TaskCommandDeps,
  ): Promise<TaskCommand> {
    const execId = randomBytes(8).toString('hex')
    const directory = await makeExecDirectory(record.bundleDir, execId).catch((error: unknown) => {
      throw new CodedError('FailedPrecondition', `exec in container ${record.id}: it has no bundle`, { cause: error })
    })
    const stdio = stdioIn(directory, request)
    const command = new TaskCommand({ record, execId, stdio }, options, deps)
    try {
      makeFifos(deps.libc, stdio)
    } catch (error) {
      await removeTree(directory)
      throw error
    }
    return command
  }

  /** One that an earlier daemon has left. */
  static async left(
    record: TaskRecord,
    execId: string,
    options: TaskCommandOptions,
    deps: TaskCommandDeps,
  ): Promise<TaskCommand> {
    const directory = execDirectory(record.bundleDir, execId)
    const stdio = stdioIn(directory, { terminal: false, stdin: true })
    const command = new TaskCommand({ record, execId, stdio }, options, deps)
    command.#started = await loadCommand(directory)
    return command
  }

  get execId(): string {
    return this.#execId
  }

  /** Of the command, when it can be seen from here; otherwise 0. */
  get pid(): number {
    return this.#started?.process.pid ?? 0
  }

  /**
   * Runs the command. When the signal is aborted it goes on being started: {@link kill} ends it then.
   * @throws CodedError `FailedPrecondition` when the container does not run, `Internal` with what the runtime said.
   */
  async start({ command, terminal }: TaskCommandRequest, signal: AbortSignal): Promise<void> {
    const first = await containerProcess(this.#record)
    const spec = processOf(first, command, terminal)
    signal.throwIfAborted()
    const { service, announcements } = this.#deps
    const ids = { id: this.#record.id, exec_id: this.#execId }
    const call: TaskCall = { timeoutMs: this.#options.runtimeTimeoutMs, signal: this.#none.signal }
    await announcements.addProcess(this.#record, { execId: this.#execId, spec, stdio: this.stdio }, signal)
    const { stdin, stdout, stderr } = this.stdio
    const process = { type_url: PROCESS_TYPE, value: Buffer.from(spec) }
    const starting = service
      .exec({ ...ids, terminal, stdin, stdout, stderr, spec: process }, call)
      .then(() => service.start(ids, call))
    this.#starting = starting.catch(() => undefined)
    await this.#note((await starting).pid, Number(first.get('oomScoreAdj') ?? 0))
  }

  /** How it ended. @throws CodedError as `TaskWait.ended`. */
  async ended(signal: AbortSignal): Promise<ExitStatus> {
    const { callTimeoutMs: timeoutMs } = this.#options
    const { service } = this.#deps
    const options = { id: this.#record.id, execId: this.#execId, timeoutMs, unreachableMs: timeoutMs, signal }
    const isGone = (error: unknown): Promise<boolean> => isServiceDead(this.#record, error)
    const wait = new TaskWait(options, { service, isGone })
    this.#waits.add(wait)
    try {
      return await wait.ended()
    } finally {
      this.#waits.delete(wait)
    }
  }

  /** It may have ended. */
  wake(): void {
    for (const wait of this.#waits) wait.wake()
  }

  /** Kills it with all its processes, and returns when it has ended. @throws CodedError when that cannot be seen. */
  async kill(): Promise<void> {
    await this.#starting
    const killed = this.#started ? killTree(this.#deps.libc, this.#started.process, this.#started.held) : []
    using limit = deadline(`kill a command in container ${this.#record.id}`, KILL_MS)
    await this.#killAtService(limit.signal)
    for (const process of killed) await endsWithin(process, this.#options.bootId, KILL_MS, limit.signal)
  }

  async #killAtService(signal: AbortSignal): Promise<void> {
    const ids = { id: this.#record.id, exec_id: this.#execId }
    try {
      const wasThere = await unlessMissing(
        this.#deps.service.kill({ ...ids, signal: SIGKILL, all: false }, this.#call()),
      )
      if (!wasThere) return
    } catch (error) {
      // It was made, and not started: the service refuses.
      if (!['FailedPrecondition', 'Internal'].includes(errorCode(error))) throw error
      if ((await this.#deps.service.state(ids, this.#call())).status === 'CREATED') return
      throw error
    }
    await this.ended(signal)
  }

  /** Removes all of it. A service that has ended is success. */
  async delete(): Promise<void> {
    const call = { timeoutMs: DELETE_MS, signal: this.#none.signal }
    try {
      await unlessMissing(this.#deps.service.delete({ id: this.#record.id, exec_id: this.#execId }, call))
    } catch (error) {
      if (!(await isServiceDead(this.#record, error))) {
        throw failure(`delete a command in container ${this.#record.id}`, error)
      }
    }
    await removeTree(execDirectory(this.#record.bundleDir, this.#execId))
    await this.#deps.announcements.removeProcess(this.#record, this.#execId, this.#none.signal)
  }

  /** Tells the service to end its input. */
  async closeIo(): Promise<void> {
    const ids = { id: this.#record.id, exec_id: this.#execId }
    await unlessMissing(this.#deps.service.closeIo({ ...ids, stdin: true }, this.#call()))
  }

  async resize({ width, height }: { readonly width: number; readonly height: number }): Promise<void> {
    const ids = { id: this.#record.id, exec_id: this.#execId }
    await unlessMissing(this.#deps.service.resizePty({ ...ids, width, height }, this.#call()))
  }

  #call(): TaskCall {
    return { timeoutMs: this.#options.callTimeoutMs, signal: this.#none.signal }
  }

  async #note(pid: number, oomScoreAdj: number): Promise<void> {
    const process = await visibleProcess(this.#record, pid, this.#options.bootId)
    if (!process) return
    // crun does not, and it would have that of the shim.
    setOomScore(pid, oomScoreAdj)
    this.#started = { process, held: heldStreams(pid) }
    await saveCommand(execDirectory(this.#record.bundleDir, this.#execId), this.#started)
  }
}
