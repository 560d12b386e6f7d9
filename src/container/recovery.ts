import type { Logger } from 'pino'
import { deadline } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ProcessCheckpoints } from '../executor/process-checkpoints.ts'
import { type ExecutedRecord, type Executor, type ExitStatus, isTask } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { isUnreachable, type Orphans } from './orphans.ts'
import { notBefore } from './status.ts'
import { unknownExit } from '../core/unknown-exit.ts'

/** One look at one container, at whoever runs it. */
const LOOK_MS = 15_000

export interface RecoveryDeps {
  readonly executor: Executor<ExecutedRecord>
  readonly executed: Pick<ExecutedContainers, 'of'>
  readonly orphans: Pick<Orphans, 'end'>
  readonly processes: Pick<ProcessCheckpoints, 'wasRestored'>
  readonly logger: Logger
}

/** What is to be done about a container once it is known how it is. */
export type Verdict =
  /** Its process is there: watch for its end. */
  | 'watch'
  /** It has ended, or cannot be observed. */
  | 'leave'
  /** Whoever runs it does not answer: it stays as it is on record, and is asked about again. */
  | 'later'
  /** Its CreateContainer never ended: take it back. */
  | 'rollback'
  /** Its removal has begun: go on with it. */
  | 'remove'

/** Finds out how a container is after a restart. What cannot be found out changes nothing. */
export class Recovery {
  readonly #bootId: string
  readonly #deps: RecoveryDeps

  constructor(options: { readonly bootId: string }, deps: RecoveryDeps) {
    this.#bootId = options.bootId
    this.#deps = deps
  }

  /** Before any container is touched: lets the executor know what is on record. */
  adopt(container: Container): void {
    try {
      const record = this.#deps.executed.of(container)
      if (record) this.#deps.executor.adopt(record)
    } catch (error) {
      container.quarantine(errorMessage(error))
    }
  }

  async recover(container: Container): Promise<Verdict> {
    const { visible, removing, exit } = container.status
    if (!visible) return 'rollback'
    if (removing) return 'remove'
    if (exit) return 'leave'
    const [entry] = container.entries
    if (entry && entry.bootId !== this.#bootId) {
      await this.#ended(container, { code: 255, atNs: nowNs(), reason: 'NodeReboot' }, false)
      return 'leave'
    }
    try {
      return await this.#observe(container)
    } catch (error) {
      const message = errorMessage(error)
      if (isUnreachable(error) && this.#isTask(container)) {
        this.#deps.logger.warn({ containerId: container.id, error: message }, 'container cannot be observed yet')
        return 'later'
      }
      container.quarantine(`it cannot be observed: ${message}`)
      return 'leave'
    }
  }

  /** The Task service that runs the container; `''` when it is run by an OCI runtime on this node, or nothing is known. */
  laneOf(container: Container): string {
    try {
      const record = this.#deps.executed.of(container)
      return record && isTask(record) ? record.endpoint.address : ''
    } catch {
      // Its recovery tells why.
      return ''
    }
  }

  #isTask(container: Container): boolean {
    return this.laneOf(container) !== ''
  }

  async #observe(container: Container): Promise<Verdict> {
    const record = this.#deps.executed.of(container)
    if (!record) return 'leave'
    using limit = deadline(`look at container ${container.id}`, LOOK_MS)
    try {
      return await this.#look(container, record, limit.signal)
    } catch (error) {
      if (!(await this.#deps.orphans.end(record, error, limit.signal))) throw error
      await this.#ended(container, unknownExit(), false)
      return 'leave'
    }
  }

  async #look(container: Container, record: ExecutedRecord, signal: AbortSignal): Promise<Verdict> {
    const { executor, processes, logger } = this.#deps
    const known = container.status.process
    // One that has moved itself to another cgroup is still the one that we know.
    const isKnownAlive = known !== null && (await executor.isAlive(record, known, signal))
    const process = isKnownAlive ? known : await executor.findProcess(record, signal)
    // It waits for its start, which was not asked for.
    const isUntouched = container.metadata.restored && container.status.state === 'CREATED' && !process
    if (isUntouched && !isTask(record) && !(await processes.wasRestored(record))) return 'leave'
    if (process && (!known || known.startTime === process.startTime)) {
      await this.#running(container, record, process, signal)
      await executor.killLeftExecs(record, process, signal).catch((error: unknown) => {
        const log = { containerId: container.id, error: errorMessage(error) }
        logger.warn(log, 'commands of an earlier daemon may still run')
      })
      return 'watch'
    }
    const exit = await this.#exitOf(record, known, signal)
    await this.#ended(container, exit, await executor.oomKilled(record, exit, signal))
    return 'leave'
  }

  /** Of a container of a Task service, it is us who write the log: its end is told when all is in that. */
  async #exitOf(record: ExecutedRecord, known: ProcessIdentity | null, signal: AbortSignal): Promise<ExitStatus> {
    const { executor } = this.#deps
    if (isTask(record) && known) return executor.wait(record, known, signal)
    return (await executor.exitStatus(record, signal)) ?? unknownExit()
  }

  /** A start that was not written down any more is told by whoever runs it. */
  async #running(
    container: Container,
    record: ExecutedRecord,
    process: ProcessIdentity,
    signal: AbortSignal,
  ): Promise<void> {
    const startedAtNs = await this.#deps.executor.startedAtNs(record, process, signal)
    const state = startedAtNs === null ? 'CREATED' : 'RUNNING'
    if (container.status.state === state && container.status.process) return
    await container.note({
      status: (current) => ({ ...current, state, process, startedAtNs: current.startedAtNs || (startedAtNs ?? 0n) }),
      log: { why: 'it was found like that' },
    })
  }

  async #ended(container: Container, exit: ExitStatus, oomKilled: boolean): Promise<void> {
    await container.note({
      status: (current) => ({
        ...current,
        state: 'EXITED',
        exit: notBefore(exit, current.startedAtNs),
        oomKilled,
      }),
      log: { why: 'it ended while no daemon ran' },
    })
  }
}
