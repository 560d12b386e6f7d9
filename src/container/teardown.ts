import { constants } from 'node:os'
import type { Logger } from 'pino'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { type ExecutedRecord, type Executor, isTask } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import { ledgerChange, type Releaser } from '../lifecycle/release.ts'
import { signalNumber } from '../oci/stop-signal.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import type { Orphans } from './orphans.ts'
import { RELEASE_CHAINS } from './resources.ts'
import { StopGrace } from './stop-grace.ts'
import { unknownExit } from '../core/unknown-exit.ts'

/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 10_000
/** One question to whoever runs a container. */
const LOOK_MS = 10_000
const SETTLE_MS = 20_000

export interface TeardownDeps {
  readonly executor: Executor<ExecutedRecord>
  readonly executed: Pick<ExecutedContainers, 'of' | 'ofProcess' | 'release'>
  readonly orphans: Pick<Orphans, 'end'>
  readonly releaser: Releaser
  readonly failpoints: Failpoints
  readonly logger: Logger
  /** Sees to it that the end of a process is watched for; resolves when it is on record. */
  readonly ended: (container: Container, process: ProcessIdentity) => Promise<void>
  /** Told before a container is killed. */
  readonly killing: (container: Container) => void
}

interface RunningProcess {
  readonly record: ExecutedRecord
  readonly process: ProcessIdentity
}

/**
 * The way back: StopContainer, RemoveContainer and the rollback of a CreateContainer that failed. Each can be called in
 * any state and any number of times; what could not be released stays in the ledger. One at a time for one container.
 */
export class Teardown {
  readonly #deps: TeardownDeps

  constructor(deps: TeardownDeps) {
    this.#deps = deps
  }

  /**
   * Asks the container to end, and kills it when it has not by the end of the grace period.
   * @throws CodedError `FailedPrecondition` when not even SIGKILL ended it; `Unavailable` or `DeadlineExceeded` when who
   * runs it does not answer: then it is what it was.
   */
  async stop(container: Container, grace: StopGrace): Promise<void> {
    const { state } = container.status
    const found = await this.#findProcess(container)
    if (!found) return this.#markEnded(container)
    const { record, process } = found
    const ended = this.#deps.ended(container, process)
    // One that was not started is not there to handle a signal.
    if (state === 'RUNNING') {
      const signalled = signalNumber(container.metadata.stopSignal) ?? constants.signals.SIGTERM
      await this.#within(container, (signal) => this.#deps.executor.kill(record, process, signalled, signal))
      await this.#deps.failpoints.hit('container-stop.signalled')
      if (await grace.outlasts(ended)) return this.#markEnded(container)
    }
    this.#deps.killing(container)
    await this.#kill(container, found, ended)
    await this.#deps.failpoints.hit('container-stop.ended')
    await this.#markEnded(container)
  }

  /** Returns when it is on record to have ended, or has ended and that takes too long to be told. */
  async #kill(container: Container, { record, process }: RunningProcess, ended: Promise<void>): Promise<void> {
    const { executor } = this.#deps
    using patience = deadline(`stop container ${container.id}`, KILL_MS)
    try {
      await executor.kill(record, process, 'SIGKILL', patience.signal)
      // What is frozen is thawed by this, and dies only then.
      await this.#killAll(container, patience.signal)
      await waitFor(ended, patience.signal)
    } catch (cause) {
      // Its end may take long to be told where disks are slow.
      if (!(await this.#within(container, (signal) => executor.isAlive(record, process, signal)))) return
      const why = `it is still there ${KILL_MS} ms after SIGKILL`
      throw new CodedError('FailedPrecondition', `stop container ${container.id}: ${why}`, { cause })
    }
  }

  /**
   * Takes an ended container from its Task service, which may end with the sandbox and has its exit status no longer to keep.
   * What fails is done when the container is removed.
   */
  async settle(container: Container): Promise<void> {
    const record = this.#record(container)
    if (!record || !isTask(record)) return
    using limit = deadline(`settle container ${container.id}`, SETTLE_MS)
    try {
      await this.#deps.executed.release(record, limit.signal)
    } catch (error) {
      const log = { containerId: container.id, error: errorMessage(error) }
      this.#deps.logger.warn(log, 'container is left at its Task service')
    }
  }

  /** Ends the container at once and gives back all of it. Returns whether nothing is left; otherwise the rest is owed. */
  async remove(container: Container): Promise<boolean> {
    await this.stop(container, new StopGrace(0))
    if (!container.status.removing) await container.note({ status: (current) => ({ ...current, removing: true }) })
    await this.#deps.failpoints.hit('container-remove.marked')
    return this.#releaseAll(container)
  }

  /** Takes back a container whose creation did not end well, and why. Returns whether nothing is left of it. */
  async rollback(container: Container, why: string): Promise<boolean> {
    try {
      await this.stop(container, new StopGrace(0))
    } catch (error) {
      this.#deps.logger.error({ containerId: container.id, error: errorMessage(error) }, 'container cannot be ended')
    }
    if (await this.#releaseAll(container)) return true
    // Somebody has to see it, to remove it.
    await container.note({ status: (current) => ({ ...current, visible: true, message: why }) })
    return false
  }

  /** Its first process, if that lives: also of a container that is not known as it should be, something may run. */
  async #findProcess(container: Container): Promise<RunningProcess | null> {
    const { executor, executed, orphans } = this.#deps
    const { process, exit } = container.status
    // That was seen, or the whole node has gone down since.
    if (exit && exit.reason !== 'Unknown') return null
    return this.#within(container, async (signal) => {
      const record = process ? executed.ofProcess(container, process) : this.#record(container)
      if (!record) return null
      try {
        if (process && (await executor.isAlive(record, process, signal))) return { record, process }
        if (exit) return null
        // Of one that has just died, the end is about to be told.
        const found = (this.#record(container) && (await executor.findProcess(record, signal))) ?? process
        return found && { record, process: found }
      } catch (error) {
        if (await orphans.end(record, error, signal)) return null
        throw error
      }
    })
  }

  /** Whoever runs a container may not answer. */
  async #within<T>(container: Container, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    using limit = deadline(`look at container ${container.id}`, LOOK_MS)
    return await work(limit.signal)
  }

  async #killAll(container: Container, signal: AbortSignal): Promise<void> {
    const record = this.#record(container)
    if (record) await this.#deps.executor.killAll(record, signal)
  }

  #record(container: Container): ExecutedRecord | null {
    try {
      return this.#deps.executed.of(container)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      this.#deps.logger.error({ containerId: container.id, error: errorMessage(error) }, 'record cannot be read')
      return null
    }
  }

  async #releaseAll(container: Container): Promise<boolean> {
    const release = await this.#deps.releaser.releaseAll(container.entries, RELEASE_CHAINS)
    await this.#deps.failpoints.hit('container-remove.released')
    if (release.released.length === container.entries.length) {
      try {
        await container.delete()
        return true
      } catch (error) {
        const log = { containerId: container.id, error: errorMessage(error) }
        this.#deps.logger.error(log, 'container cannot be deleted')
      }
    }
    await container.note(ledgerChange(release))
    return false
  }

  /** Whoever had a process has its end on record by now; one of which nobody knows a process is told to have ended. */
  async #markEnded(container: Container): Promise<void> {
    if (container.status.exit) return
    await container.note({
      status: (current) => ({
        ...current,
        state: 'EXITED',
        exit: current.exit ?? unknownExit(),
      }),
      log: { why: 'it was ended' },
    })
  }
}
