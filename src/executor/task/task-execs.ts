import type { Logger } from 'pino'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { toBuffer } from '../../core/thread.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import type { Libc } from '../../host/libc.ts'
import { OutputBudget, OutputReader } from '../../host/programs/output-reader.ts'
import { describe, timeLimit } from '../exec/command.ts'
import { COMMAND_STARTS, StartSlots } from '../exec/start-slots.ts'
import type { ExecOutput, ExecRequest, ProcessStreams, StreamedExecRequest, TaskRecord } from '../types.ts'
import type { Announcements } from './announcements.ts'
import { listExecs } from './exec-files.ts'
import { drained, openOutput } from './exec-output.ts'
import { FifoReader } from './fifo-reader.ts'
import { failure, givenUp, serviceOf } from './task-calls.ts'
import { TaskCommand, type TaskCommandOptions, type TaskCommandRequest } from './task-command.ts'
import { TaskSession } from './task-session.ts'
import type { TaskServices } from './types.ts'

/** Of all commands whose output is collected at the same time. */
const MAX_COLLECTED_BYTES = 256 * 1024 * 1024
export interface TaskExecsDeps {
  readonly services: TaskServices
  readonly announcements: Announcements
  readonly libc: Libc
  readonly descriptors: Descriptors
  readonly logger: Logger
}

/** Runs commands in the containers of Task services. */
export class TaskExecs {
  readonly #options: TaskCommandOptions
  readonly #deps: TaskExecsDeps
  readonly #slots = new StartSlots(COMMAND_STARTS)
  readonly #budget = new OutputBudget(MAX_COLLECTED_BYTES)
  readonly #running = new Map<string, TaskCommand>()

  constructor(options: TaskCommandOptions, deps: TaskExecsDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** See `ConmonExecutor.execSync`. */
  async run(
    record: TaskRecord,
    request: ExecRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<ExecOutput> {
    const what = describe(record, request)
    const { command, maxOutputBytes, timeoutMs } = request
    using limit = timeLimit(what, timeoutMs, signal)
    using _slot = await this.#slots.take(limit.signal)
    const wanted = { command, terminal: false, stdin: false }
    const task = await this.#make(record, wanted)
    try {
      using stdout = new OutputReader(openOutput(task.stdio.stdout), maxOutputBytes, this.#budget)
      using stderr = new OutputReader(openOutput(task.stdio.stderr), maxOutputBytes, this.#budget)
      const exitCode = await this.#runToEnd(what, task, wanted, isRunning, limit.signal)
      await drained([stdout, stderr])
      return { exitCode, stdout: toBuffer(stdout.copy()), stderr: toBuffer(stderr.copy()) }
    } finally {
      this.#forget(task)
    }
  }

  /** See `ConmonExecutor.exec`. */
  async stream(
    record: TaskRecord,
    request: StreamedExecRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<ProcessStreams> {
    const what = describe(record, request)
    using _slot = await this.#slots.take(signal)
    const { command, terminal, stdin } = request
    const task = await this.#make(record, { command, terminal, stdin })
    const session = new TaskSession(
      { what, task, wanted: request, terminal },
      {
        descriptors: this.#deps.descriptors,
        onOver: () => this.#forget(task),
        onTrouble: (error) => this.#warn(what, error),
      },
    )
    try {
      await session.start(() => this.#start(what, task, { command, terminal, stdin }, isRunning, signal), signal)
      return session
    } catch (error) {
      await session[Symbol.asyncDispose]()
      throw error
    }
  }

  /** See `ConmonExecutor.killLeftExecs`. */
  async killLeft(record: TaskRecord): Promise<void> {
    const left = (await listExecs(record.bundleDir)).filter((execId) => !this.#running.has(execId))
    await Promise.all(
      left.map(async (execId) => {
        const task = await TaskCommand.left(record, execId, this.#options, this.#commandDeps(record))
        await task.kill()
        await task.delete()
      }),
    )
  }

  /** A command may have ended. */
  wake(execId: string): void {
    this.#running.get(execId)?.wake()
  }

  async #make(record: TaskRecord, request: TaskCommandRequest): Promise<TaskCommand> {
    const task = await TaskCommand.make(record, request, this.#options, this.#commandDeps(record))
    this.#running.set(task.execId, task)
    return task
  }

  async #runToEnd(
    what: string,
    task: TaskCommand,
    request: TaskCommandRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<number> {
    try {
      await this.#start(what, task, request, isRunning, signal)
      return (await task.ended(signal)).code
    } catch (error) {
      if (!signal.aborted) throw error
      await task.kill().catch((why: unknown) => this.#warn(what, why))
      throw givenUp(what, signal)
    }
  }

  async #start(
    what: string,
    task: TaskCommand,
    request: TaskCommandRequest,
    isRunning: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await task.start(request, signal)
    } catch (error) {
      if (signal.aborted) throw givenUp(what, signal)
      throw await notStarted(what, error, isRunning)
    }
  }

  /** In the background: a service may wait for whoever the command has left, and nobody shall wait for that. */
  #forget(task: TaskCommand): void {
    const { stdout, stderr } = task.stdio
    const rests = [stdout, stderr].flatMap((path) => (path === '' ? [] : dropRest(path)))
    void task
      .delete()
      .catch((error: unknown) => this.#warn('delete a command', error))
      .finally(() => {
        this.#running.delete(task.execId)
        for (const rest of rests) rest[Symbol.dispose]()
      })
  }

  #warn(what: string, error: unknown): void {
    this.#deps.logger.warn({ error: errorMessage(error) }, `${what}: not ended as it should be`)
  }

  #commandDeps(record: TaskRecord): {
    service: ReturnType<typeof serviceOf>
    announcements: Announcements
    libc: Libc
  } {
    const { services, announcements, libc } = this.#deps
    return { service: serviceOf(services, record), announcements, libc }
  }
}

/** Who writes on when nobody is interested any more does not wait: what comes is dropped. */
function dropRest(path: string): FifoReader[] {
  try {
    return [new FifoReader(path, () => undefined)]
  } catch {
    // It was never made.
    return []
  }
}

/** Whether the container ended before the command could begin decides whose fault it is. */
async function notStarted(what: string, error: unknown, isRunning: () => Promise<boolean>): Promise<CodedError> {
  const code = errorCode(error)
  if (code === 'Unavailable' || code === 'DeadlineExceeded') return failure(what, error)
  const runs = code !== 'NotFound' && (await isRunning().catch(() => true))
  if (!runs)
    return new CodedError('FailedPrecondition', `${what}: it does not run: ${errorMessage(error)}`, { cause: error })
  return new CodedError(code === 'FailedPrecondition' ? code : 'Internal', `${what}: ${errorMessage(error)}`, {
    cause: error,
  })
}
