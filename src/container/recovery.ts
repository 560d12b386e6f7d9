import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { ContainerRecord, ExitStatus } from '../executor/types.ts'
import { isAlive, type ProcessIdentity } from '../host/process.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { notBefore, unknownExit } from './status.ts'

export interface RecoveryDeps {
  readonly executor: ConmonExecutor
  readonly executed: ExecutedContainers
  readonly logger: Logger
}

/** What is to be done about a container once it is known how it is. */
export type Verdict =
  /** Its process is there: watch for its end. */
  | 'watch'
  /** It has ended, or cannot be observed. */
  | 'leave'
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
    if (container.quarantined !== '') {
      this.#deps.logger.error({ containerId: container.id, reason: container.quarantined }, 'container quarantined')
    }
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
      container.quarantine(errorMessage(error))
      const log = { containerId: container.id, error: errorMessage(error) }
      this.#deps.logger.error(log, 'container cannot be observed')
      return 'leave'
    }
  }

  async #observe(container: Container): Promise<Verdict> {
    const record = this.#deps.executed.of(container)
    if (!record) return 'leave'
    const { executor } = this.#deps
    const known = container.status.process
    // One that has moved itself to another cgroup is still the one that we know.
    const isKnownAlive = known !== null && isAlive(known, this.#bootId)
    const process = isKnownAlive ? known : await executor.findProcess(record)
    // It waits for its start, which was not asked for.
    const isUntouched = container.metadata.restored && container.status.state === 'CREATED' && !process
    if (isUntouched && !(await executor.wasLaunched(record))) return 'leave'
    if (process && (!known || known.startTime === process.startTime)) {
      await this.#running(container, record, process)
      await executor.killLeftExecs(record, process).catch((error: unknown) => {
        const log = { containerId: container.id, error: errorMessage(error) }
        this.#deps.logger.warn(log, 'commands of an earlier daemon may still run')
      })
      return 'watch'
    }
    const exit = (await executor.exitStatus(record)) ?? unknownExit()
    await this.#ended(container, exit, await executor.oomKilled(record, exit))
    return 'leave'
  }

  /** A start that was not written down any more can be told by what the runtime has taken away: the FIFO it waits at. */
  async #running(container: Container, record: ContainerRecord, process: ProcessIdentity): Promise<void> {
    const stateDir = join(record.runtime.root, record.id)
    const waits = await stat(join(stateDir, 'exec.fifo')).catch(() => null)
    const state = waits ? 'CREATED' : 'RUNNING'
    if (container.status.state === state && container.status.process) return
    const startedAtNs = waits ? 0n : BigInt(Math.round((await stat(stateDir)).mtimeMs * 1e6))
    await container.note({
      status: (current) => ({ ...current, state, process, startedAtNs: current.startedAtNs || startedAtNs }),
    })
  }

  async #ended(container: Container, exit: ExitStatus, oomKilled: boolean): Promise<void> {
    const log = { containerId: container.id, ...exit, atNs: exit.atNs.toString(), oomKilled }
    this.#deps.logger.info(log, 'container ended while away')
    await container.note({
      status: (current) => ({
        ...current,
        state: 'EXITED',
        exit: notBefore(exit, current.startedAtNs),
        oomKilled,
      }),
    })
  }
}
