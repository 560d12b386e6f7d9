import type { ProcessIdentity } from '../host/process.ts'
import type { Resources } from '../oci/spec.ts'
import type { ConmonExecutor } from './conmon-executor.ts'
import type { QuietRuntimes } from './task/quiet-runtimes.ts'
import type { TaskExecutor } from './task/task-executor.ts'
import {
  type AttachRequest,
  type ContainerIo,
  type ContainerRecord,
  type ExecOutput,
  type ExecRequest,
  type ExecutedRecord,
  type Executor,
  type ExitStatus,
  isTask,
  type OciRuntime,
  type ProcessStreams,
  type StreamedExecRequest,
  type TaskEndpoint,
  type TaskRecord,
} from './types.ts'

/** What is to be run, and by whom. */
export interface PlanRequest {
  readonly id: string
  readonly sandboxId: string
  readonly bundleDir: string
  readonly cgroupsPath: string
  readonly hasUserns: boolean
  /** For what conmon runs. */
  readonly runtime: OciRuntime
  /** The Task service that is to run it; null: `runtime`, under conmon. */
  readonly tasks: (TaskEndpoint & Pick<TaskRecord, 'announced' | 'options'>) | null
}

export interface ExecutorsDeps {
  readonly conmon: Executor<ContainerRecord> & Pick<ConmonExecutor, 'plan'>
  readonly tasks: Executor<TaskRecord> & Pick<TaskExecutor, 'plan'>
  readonly runtimes: Pick<QuietRuntimes, 'quiet'>
}

/** The executor of all containers: each is run by the one that its record is for. */
export class Executors implements Executor<ExecutedRecord> {
  readonly #deps: ExecutorsDeps

  constructor(deps: ExecutorsDeps) {
    this.#deps = deps
  }

  /** A record for a new container. Nothing of it is made yet. */
  async plan(request: PlanRequest): Promise<ExecutedRecord> {
    const { tasks, runtime, sandboxId, hasUserns, ...common } = request
    if (!tasks) return this.#deps.conmon.plan({ ...common, runtime, hasUserns })
    const { address, version, announced } = tasks
    const options = hasUserns ? await this.#deps.runtimes.quiet(tasks.options) : tasks.options
    return this.#deps.tasks.plan({ ...common, sandboxId, endpoint: { address, version }, announced, options })
  }

  /** Drops a plan of which nothing was made. */
  async forget(record: ExecutedRecord, signal: AbortSignal): Promise<void> {
    if (!isTask(record)) await this.#deps.conmon.delete(record, signal)
  }

  adopt(record: ExecutedRecord): void {
    this.#for(record).adopt(record)
  }

  /** A log is what it is, whoever writes it. */
  async prepareLog(io: ContainerIo | undefined, signal: AbortSignal): Promise<string> {
    return this.#deps.conmon.prepareLog(io, signal)
  }

  async create(
    record: ExecutedRecord,
    signal: AbortSignal,
    io?: ContainerIo,
    logReady?: Promise<string>,
  ): Promise<ProcessIdentity> {
    return this.#for(record).create(record, signal, io, logReady)
  }

  async start(record: ExecutedRecord, signal: AbortSignal): Promise<void> {
    await this.#for(record).start(record, signal)
  }

  async startedAtNs(record: ExecutedRecord, process: ProcessIdentity, signal: AbortSignal): Promise<bigint | null> {
    return this.#for(record).startedAtNs(record, process, signal)
  }

  async kill(
    record: ExecutedRecord,
    process: ProcessIdentity,
    signalName: NodeJS.Signals | number,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#for(record).kill(record, process, signalName, signal)
  }

  async killAll(record: ExecutedRecord, signal: AbortSignal): Promise<void> {
    await this.#for(record).killAll(record, signal)
  }

  async isAlive(record: ExecutedRecord, process: ProcessIdentity, signal: AbortSignal): Promise<boolean> {
    return this.#for(record).isAlive(record, process, signal)
  }

  async findProcess(record: ExecutedRecord, signal: AbortSignal): Promise<ProcessIdentity | null> {
    return this.#for(record).findProcess(record, signal)
  }

  async wait(record: ExecutedRecord, process: ProcessIdentity, signal: AbortSignal): Promise<ExitStatus> {
    return this.#for(record).wait(record, process, signal)
  }

  async exitStatus(record: ExecutedRecord, signal: AbortSignal): Promise<ExitStatus | null> {
    return this.#for(record).exitStatus(record, signal)
  }

  async oomKilled(record: ExecutedRecord, exit: ExitStatus, signal: AbortSignal): Promise<boolean> {
    return this.#for(record).oomKilled(record, exit, signal)
  }

  async execSync(record: ExecutedRecord, request: ExecRequest, signal: AbortSignal): Promise<ExecOutput> {
    return this.#for(record).execSync(record, request, signal)
  }

  async exec(record: ExecutedRecord, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#for(record).exec(record, request, signal)
  }

  async killLeftExecs(record: ExecutedRecord, process: ProcessIdentity, signal: AbortSignal): Promise<void> {
    await this.#for(record).killLeftExecs(record, process, signal)
  }

  async attach(record: ExecutedRecord, request: AttachRequest, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#for(record).attach(record, request, signal)
  }

  async reopenLog(record: ExecutedRecord, logPath: string, signal: AbortSignal): Promise<void> {
    await this.#for(record).reopenLog(record, logPath, signal)
  }

  async update(record: ExecutedRecord, resources: Resources, signal: AbortSignal): Promise<void> {
    await this.#for(record).update(record, resources, signal)
  }

  async delete(record: ExecutedRecord, signal: AbortSignal): Promise<void> {
    await this.#for(record).delete(record, signal)
  }

  /** Takes records of both kinds, as far as the compiler knows; it is given those of its own kind only. */
  #for(record: ExecutedRecord): Executor<ExecutedRecord> {
    return isTask(record) ? this.#deps.tasks : this.#deps.conmon
  }
}
