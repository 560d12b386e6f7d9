import { type Deadline, deadline } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { nowNs } from '../core/now.ts'
import {
  type ContainerRecord,
  type ExecutedRecord,
  type Executor,
  isTask,
  type ProcessStreams,
  type StreamedExecRequest,
  type StreamsWanted,
} from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Bundles } from './bundle.ts'
import type { RunningContainer } from './checkpoint/checkpoints.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { isUnreachable } from './orphans.ts'
import type { ProcessRestores } from './checkpoint/process-restores.ts'
import { notBefore } from './status.ts'
import type { ContainerResources, ExecResult } from './types.ts'
import { unknownExit } from '../core/unknown-exit.ts'

export interface LiveOptions {
  /** One operation of the runtime with all that belongs to it. */
  readonly timeoutMs: number
  /** The same, with the state of processes to be written or read. */
  readonly checkpointMs: number
}

export interface LiveDeps {
  readonly executor: Executor<ExecutedRecord>
  readonly executed: Pick<ExecutedContainers, 'of'>
  readonly bundles: Bundles
  readonly restores: ProcessRestores
  readonly failpoints: Failpoints
  /** Told of a container of which it is not known whether it was started: whoever runs it did not answer. */
  readonly uncertain: (container: Container) => void
}

/** What is done with the containers of a checkpoint, within a time. */
export type CheckpointWork = (
  running: readonly RunningContainer[],
  timeoutMs: number,
  signal: AbortSignal,
) => Promise<void>

/** What the CRI says of ExecSync: more of a stream is cut off. */
const MAX_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024

/** What is done with a container that has a process. Each throws `FailedPrecondition` when the container is not so far. */
export class LiveOperations {
  readonly #options: LiveOptions
  readonly #deps: LiveDeps
  readonly #underWay = new Map<string, Set<AbortController>>()

  constructor(options: LiveOptions, deps: LiveDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** Lets a created container run. Returns when that was, in nanoseconds since the epoch. */
  async start(container: Container): Promise<bigint> {
    const record = this.#record(container, ['CREATED'], 'start')
    const { executor, failpoints } = this.#deps
    const { restored } = container.metadata
    using limit = this.#limit([container], 'start', restored ? this.#options.checkpointMs : this.#options.timeoutMs)
    await failpoints.hit('container-start.start.before', limit.signal)
    const startedAtNs = nowNs()
    let { process } = container.status
    try {
      if (restored) process = await this.#restore(container, record, limit.signal)
      else await executor.start(record, limit.signal)
    } catch (error) {
      if (isTask(record) && isUnreachable(error)) {
        this.#deps.uncertain(container)
        throw error
      }
      // What is left of a restore is nothing that another could begin with.
      const ended = restored ? ({ state: 'EXITED', exit: unknownExit() } as const) : {}
      const message = errorMessage(error)
      await container.note({ status: (current) => ({ ...current, ...ended, message }), log: { why: message } })
      throw error
    }
    await failpoints.hit('container-start.start.after', limit.signal)
    await container.note({
      // It may have ended by now.
      status: (current) => ({
        ...current,
        process,
        startedAtNs,
        state: current.exit ? 'EXITED' : 'RUNNING',
        exit: notBefore(current.exit, startedAtNs),
      }),
      log: { why: 'it was started' },
    })
    return startedAtNs
  }

  async update(container: Container, resources: ContainerResources): Promise<void> {
    // Before the start of one that is restored there is nothing that could be limited.
    const record = this.#record(container, container.status.process ? ['CREATED', 'RUNNING'] : ['RUNNING'], 'update')
    const { merged, oci } = this.#deps.bundles.update(container.status.resources, resources)
    using limit = this.#limit([container], 'update', this.#options.timeoutMs)
    await this.#deps.executor.update(record, oci, limit.signal)
    await container.note({ status: (current) => ({ ...current, resources: merged }) })
  }

  async execSync(
    container: Container,
    request: { readonly command: readonly string[]; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ExecResult> {
    const record = this.#record(container, ['RUNNING'], 'run a command in')
    return this.#deps.executor.execSync(record, { ...request, maxOutputBytes: MAX_EXEC_OUTPUT_BYTES }, signal)
  }

  async exec(container: Container, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    const record = this.#record(container, ['RUNNING'], 'run a command in')
    return this.#deps.executor.exec(record, request, signal)
  }

  async attach(container: Container, wanted: StreamsWanted, signal: AbortSignal): Promise<ProcessStreams> {
    const record = this.#record(container, ['RUNNING'], 'attach to')
    const { process } = container.status
    const { config, logPath } = container.metadata
    if (!process) throw new CodedError('FailedPrecondition', `attach to container ${container.id}: it has no process`)
    const io = { terminal: config.tty, stdin: config.stdin, stdinOnce: config.stdin_once, logPath }
    return this.#deps.executor.attach(record, { process, io, wanted }, signal)
  }

  async reopenLog(container: Container, signal: AbortSignal): Promise<void> {
    const record = this.#record(container, ['RUNNING'], 'reopen the log of')
    const { logPath } = container.metadata
    if (logPath !== '') await this.#deps.executor.reopenLog(record, logPath, signal)
  }

  /**
   * Does a work with running containers in its turn; it is given up when one of them is to end, also while it waits for
   * that. Returns when it has ended.
   * @param timeoutMs 0 is the default, which it is cut to.
   */
  async checkpoint(
    containers: readonly Container[],
    timeoutMs: number,
    { turn, work }: { readonly turn: (begin: () => Promise<void>) => Promise<void>; readonly work: CheckpointWork },
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted()
    const budgetMs = Math.min(timeoutMs || this.#options.checkpointMs, this.#options.checkpointMs)
    using limit = this.#limit(containers, 'checkpoint', budgetMs, signal)
    await turn(async () => {
      limit.signal.throwIfAborted()
      const running = containers.map((container) => {
        return { container, record: underConmon(this.#record(container, ['RUNNING'], 'checkpoint'), 'checkpoint') }
      })
      await work(running, budgetMs, limit.signal)
    })
  }

  /** Gives up what is under way with a container that is to end: nobody waits for it before that. */
  interrupt(container: Container): void {
    const reason = new CodedError('Aborted', `container ${container.id} is being stopped`)
    for (const controller of this.#underWay.get(container.id) ?? []) controller.abort(reason)
  }

  #limit(containers: readonly Container[], what: string, timeoutMs: number, signal?: AbortSignal): Deadline {
    const controller = new AbortController()
    for (const { id } of containers) this.#underWay.set(id, (this.#underWay.get(id) ?? new Set()).add(controller))
    const onAbort = (): void => controller.abort(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    const ids = containers.map(({ id }) => id).join(', ')
    const limit = deadline(`${what} container ${ids}`, timeoutMs, controller.signal)
    return {
      signal: limit.signal,
      [Symbol.dispose]: () => {
        limit[Symbol.dispose]()
        signal?.removeEventListener('abort', onAbort)
        for (const { id } of containers) this.#forget(id, controller)
      },
    }
  }

  #forget(id: string, controller: AbortController): void {
    const others = this.#underWay.get(id)
    others?.delete(controller)
    if (others?.size === 0) this.#underWay.delete(id)
  }

  async #restore(container: Container, record: ExecutedRecord, signal: AbortSignal): Promise<ProcessIdentity> {
    return this.#deps.restores.restore(container, underConmon(record, 'restore'), signal)
  }

  #record(container: Container, states: readonly string[], what: string): ExecutedRecord {
    const { state } = container.status
    if (!states.includes(state)) {
      const why = `it is ${state}, not ${states.join(' or ')}`
      throw new CodedError('FailedPrecondition', `${what} container ${container.id}: ${why}`)
    }
    const record = this.#deps.executed.of(container)
    if (record) return record
    throw new CodedError('FailedPrecondition', `${what} container ${container.id}: nothing of it is left to work with`)
  }
}

/** @throws CodedError `FailedPrecondition` for what a Task service runs: its processes are not ours to save. */
function underConmon(record: ExecutedRecord, what: string): ContainerRecord {
  if (!isTask(record)) return record
  const why = 'it is run by a Task service, whose containers are not checkpointed'
  throw new CodedError('FailedPrecondition', `${what} container ${record.id}: ${why}`)
}
