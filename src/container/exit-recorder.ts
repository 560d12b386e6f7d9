import type { Logger } from 'pino'
import { deadline, sleep } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { ExecutedRecord, Executor, ExitStatus } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { isUnreachable, type Orphans } from './orphans.ts'
import { notBefore } from './status.ts'
import { unknownExit } from '../core/unknown-exit.ts'

export interface ExitRecorderDeps {
  readonly executor: Executor<ExecutedRecord>
  readonly executed: Pick<ExecutedContainers, 'of' | 'ofProcess'>
  readonly orphans: Pick<Orphans, 'end'>
  readonly logger: Logger
  /** Aborts when the daemon stops. */
  readonly signal: AbortSignal
  /** Called once the end of a container that was started is on record. */
  readonly onEnded: (container: Container) => void
}

const KILL_REST_MS = 2000
const LOOK_MS = 10_000
/** Between attempts to watch: the first, and the longest. */
const RETRY_MS = 500
const LONGEST_RETRY_MS = 5000

/** Watches for the ends of containers, and puts them on record. */
export class ExitRecorder {
  readonly #deps: ExitRecorderDeps
  /** Resolves, for each container whose end is watched for, when that end is on record. */
  readonly #watched = new Map<string, Promise<void>>()
  readonly #killed = new WeakSet<Container>()

  constructor(deps: ExitRecorderDeps) {
    this.#deps = deps
  }

  /** Begins to watch, unless that is done already. Resolves when the end is on record; never throws. */
  watch(container: Container, process: ProcessIdentity): Promise<void> {
    const watched = this.#watched.get(container.id)
    if (watched) return watched
    const ended = this.#watch(container, process).finally(() => this.#watched.delete(container.id))
    this.#watched.set(container.id, ended)
    return ended
  }

  /** From now on its end is our doing: that memory ran out in its cgroup before is not why it ended. */
  killing(container: Container): void {
    this.#killed.add(container)
  }

  /** An end that came before the start was on record is told after it. */
  started(container: Container): void {
    if (container.status.exit) this.#deps.onEnded(container)
  }

  /** What stands in the way of watching does not end a container: as long as its process lives, it is tried again. */
  async #watch(container: Container, process: ProcessIdentity): Promise<void> {
    const { signal, logger } = this.#deps
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await this.#record(container, process)
      } catch (error) {
        if (signal.aborted) return
        const log = { containerId: container.id, error: errorMessage(error) }
        if (attempt === 0) logger[isUnreachable(error) ? 'warn' : 'error'](log, 'container cannot be watched')
        if (await this.#recordGone(container, process, error)) return
        await sleep(Math.min(RETRY_MS * 2 ** attempt, LONGEST_RETRY_MS), signal).catch(() => undefined)
      }
    }
  }

  async #record(container: Container, process: ProcessIdentity): Promise<void> {
    const { executor, executed, signal } = this.#deps
    const record = executed.of(container)
    if (!record) throw new CodedError('DataLoss', 'nothing of it is on record')
    await this.#recordEnd(container, record, await executor.wait(record, process, signal))
  }

  /** Puts the end of a container on record that cannot be watched, if it is known to have ended. */
  async #recordGone(container: Container, process: ProcessIdentity, failure: unknown): Promise<boolean> {
    const { executor, executed, orphans, logger } = this.#deps
    using limit = deadline(`look at container ${container.id}`, LOOK_MS, this.#deps.signal)
    try {
      const record = executed.ofProcess(container, process)
      if (await orphans.end(record, failure, limit.signal)) {
        await this.#note(container, unknownExit(), false)
        return true
      }
      if (await executor.isAlive(record, process, limit.signal)) return false
      const exit = (await executor.exitStatus(record, limit.signal)) ?? unknownExit()
      await this.#recordEnd(container, record, exit)
      return true
    } catch (error) {
      // Who cannot be asked has not said that it ended.
      logger.debug({ containerId: container.id, error: errorMessage(error) }, 'container cannot be looked at')
      return false
    }
  }

  async #recordEnd(container: Container, record: ExecutedRecord, exit: ExitStatus): Promise<void> {
    // Read before the cgroup is removed, which waits for this.
    const oomKilled = !this.#killed.has(container) && (await this.#oomKilled(record, exit))
    // Without a pid namespace of its own, what its first process has started is still there.
    if (sharesPids(container)) await this.#killRest(container, record)
    await this.#note(container, exit, oomKilled)
  }

  /** The exit code is known by now, and is not given up for this. */
  async #oomKilled(record: ExecutedRecord, exit: ExitStatus): Promise<boolean> {
    using limit = deadline(`look at the memory of container ${record.id}`, LOOK_MS, this.#deps.signal)
    try {
      return await this.#deps.executor.oomKilled(record, exit, limit.signal)
    } catch (error) {
      if (!isUnreachable(error)) throw error
      const log = { containerId: record.id, error: errorMessage(error) }
      this.#deps.logger.warn(log, 'whether a container ran out of memory is not known')
      return false
    }
  }

  async #note(container: Container, exit: ExitStatus, oomKilled: boolean): Promise<void> {
    await container.note({
      status: (current) =>
        current.exit ? current : { ...current, state: 'EXITED', exit: notBefore(exit, current.startedAtNs), oomKilled },
      log: { why: 'its process ended' },
    })
    if (container.status.startedAtNs > 0n) this.#deps.onEnded(container)
  }

  /** One that cannot be killed now is when the container is removed; the end of the container is told all the same. */
  async #killRest(container: Container, record: ExecutedRecord): Promise<void> {
    using limit = deadline(`end what container ${container.id} has started`, KILL_REST_MS, this.#deps.signal)
    try {
      await this.#deps.executor.killAll(record, limit.signal)
    } catch (error) {
      const log = { containerId: container.id, error: errorMessage(error) }
      this.#deps.logger.warn(log, 'processes of an ended container are left')
    }
  }
}

function sharesPids({ metadata }: Container): boolean {
  return metadata.config.linux?.security_context?.namespace_options?.pid !== 'CONTAINER'
}
