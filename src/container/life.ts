import { CodedError, errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { Observer } from '../core/observer.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import { Operations } from '../lifecycle/operations.ts'
import { OwedReleases } from '../lifecycle/owed.ts'
import { Container } from './container.ts'
import { ContainerIndex, isListed } from './container-index.ts'
import { ExitRecorder } from './exit-recorder.ts'
import type { LoadedContainer } from './load.ts'
import { Recoveries } from './recoveries.ts'
import { Recovery, type RecoveryDeps, type Verdict } from './recovery.ts'
import { hasFailed } from './status.ts'
import { StopGrace } from './stop-grace.ts'
import { Teardown, type TeardownDeps } from './teardown.ts'

export interface LifeOptions {
  readonly bootId: string
  readonly recoveryConcurrency: number
}

export interface LifeDeps extends Omit<TeardownDeps, 'ended' | 'killing'> {
  /** Default: nobody. */
  readonly observer?: Observer | undefined
  readonly durable: DurableDeps
  readonly processes: RecoveryDeps['processes']
  readonly onEvent: (event: LifecycleEvent) => void
  /** Ends what is being done with a container that is to end. */
  readonly interrupt: (container: Container) => void
}

/** What is done with containers whatever they are for: they are watched, stopped, removed, taken back and recovered. */
export class ContainerLife implements AsyncDisposable {
  readonly operations: Operations
  readonly index = new ContainerIndex()
  readonly #deps: LifeDeps
  /** The containers of earlier daemons. */
  readonly #restored = new Set<string>()
  readonly #owed: OwedReleases
  readonly #exits: ExitRecorder
  readonly #teardown: Teardown
  readonly #recovery: Recovery
  readonly #recoveries: Recoveries
  /** The grace periods of the stops that are under way, by container. */
  readonly #graces = new Map<string, StopGrace>()
  readonly #closing = new AbortController()

  constructor(options: LifeOptions, deps: LifeDeps) {
    this.#deps = deps
    const { signal } = this.#closing
    this.operations = new Operations({ prefix: 'container-', observer: deps.observer })
    this.#owed = new OwedReleases((id) => this.#releaseOwed(id))
    this.#exits = new ExitRecorder({
      ...deps,
      signal,
      onEnded: (container) => this.emit('STOPPED', container, container.status.exit?.atNs),
    })
    this.#teardown = new Teardown({
      ...deps,
      ended: (container, process) => this.#exits.watch(container, process),
      killing: (container) => this.#exits.killing(container),
    })
    this.#recovery = new Recovery(options, deps)
    this.#recoveries = new Recoveries(
      { concurrency: options.recoveryConcurrency, signal },
      {
        laneOf: (container) => this.#recovery.laneOf(container),
        recover: (container) => this.#recover(container),
        logger: deps.logger,
      },
    )
  }

  /** Takes up the containers that are on record; what became of them is found out by {@link recover}. */
  async restore(loaded: readonly LoadedContainer[]): Promise<void> {
    for (const { record, hasRow } of loaded) {
      const container = new Container(record, this.#deps.durable)
      this.index.add(container)
      this.#restored.add(container.id)
      this.#recovery.adopt(container)
      if (!hasRow) await this.#insertFound(container)
    }
  }

  /** See {@link Recoveries.recover}. */
  async recover(): Promise<void> {
    // Requests are served meanwhile: what they make is nothing that an earlier daemon has left.
    await this.#recoveries.recover(this.index.all().filter(({ id }) => this.#restored.has(id)))
  }

  /** Finds out later, and as often as it takes, how a container is that does not answer. */
  recoverLater(container: Container): void {
    this.#recoveries.later(container)
  }

  /**
   * Finds out about one anew, as after a restart: what was written of it has been changed. Outside of operations.
   * @returns why it is not to be trusted, or `''`.
   */
  async examine(container: Container): Promise<string> {
    if ((await this.#recover(container)) === 'later') this.recoverLater(container)
    return container.quarantined
  }

  /** Its process is there: from here on its end is seen. */
  watch(container: Container, process = container.status.process): void {
    if (process) void this.#exits.watch(container, process)
  }

  /** Its process runs what it is for: its end is told from here on. */
  started(container: Container, atNs: bigint): void {
    this.emit('STARTED', container, atNs)
    this.#exits.started(container)
    // One that is restored has got its process only now.
    if (container.metadata.restored) this.watch(container)
  }

  async stop(container: Container, graceMs: number): Promise<void> {
    const { id } = container
    this.#deps.interrupt(container)
    const grace = this.#graces.get(id) ?? new StopGrace(graceMs)
    grace.shorten(graceMs)
    this.#graces.set(id, grace)
    await this.operations.run(id, 'stop', async () => {
      await this.#teardown.stop(container, grace).finally(() => this.#graces.delete(id))
    })
  }

  /** Stops a container at once, of a pod that ends. */
  async end(container: Container): Promise<void> {
    await this.stop(container, 0)
    await this.operations.run(container.id, 'settle', () => this.#teardown.settle(container))
  }

  /** Returns whether nothing of it is left; what is left is owed. */
  async remove(container: Container): Promise<boolean> {
    const { id } = container
    this.#deps.interrupt(container)
    // A stop with a long grace period is not waited for.
    this.#graces.get(id)?.shorten(0)
    return this.operations.run(id, 'remove', async () => {
      const wasListed = isListed(container)
      const gone = await this.#teardown.remove(container)
      this.#settle(container, gone)
      if (wasListed) this.emit('DELETED', container)
      return gone
    })
  }

  /** Takes back what a failed creation has left. Returns whether nothing of it is left; what is left is owed. */
  async rollback(container: Container, why: string): Promise<boolean> {
    return this.operations.run(container.id, 'rollback', async () => {
      const gone = await this.#teardown.rollback(container, why)
      this.#settle(container, gone)
      return gone
    })
  }

  /** How many owe the release of something. */
  get owed(): number {
    return this.#owed.size
  }

  /** Goes on now with what a container owes, instead of at its next turn. Outside of operations; throws nothing. */
  async retryOwed(id: string): Promise<void> {
    await this.#owed.retryNow(id)
  }

  emit(type: LifecycleEvent['type'], { metadata }: Container, atNs = nowNs()): void {
    this.#deps.onEvent({ type, containerId: metadata.id, sandboxId: metadata.sandboxId, atNs })
  }

  /** Stops watching. Touches no container. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#owed[Symbol.dispose]()
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
  }

  #settle(container: Container, gone: boolean): void {
    if (!gone) return this.#owed.add(container.id)
    this.#owed.settle(container.id)
    this.index.delete(container)
  }

  /** Goes on with what a removal or a rollback could not release. Returns whether nothing is owed any more. */
  async #releaseOwed(id: string): Promise<boolean> {
    const container = this.index.find(id)
    if (!container) return true
    const { status } = container
    // Somebody has been told of it, and has not asked for its removal.
    if (status.visible && !status.removing && !hasFailed(status)) return true
    try {
      return await this.remove(container)
    } catch (error) {
      this.#deps.logger.warn({ containerId: id, error: errorMessage(error) }, 'owed release failed')
      return false
    }
  }

  /** Puts a container that was found without a row on record again. Without one it is still there to be removed. */
  async #insertFound(container: Container): Promise<void> {
    const log = { containerId: container.id }
    try {
      await container.insert()
      this.#deps.logger.warn(log, 'container had no row: restored from what was found of it')
    } catch (error) {
      container.quarantine(errorMessage(error))
    }
  }

  /** Finds out how a container is, and does what that calls for. Returns what it was. */
  async #recover(container: Container): Promise<Verdict> {
    // Its sandbox may have gone on being removed, and have taken it along.
    if (this.index.find(container.id) !== container) return 'leave'
    try {
      const hadEnded = container.status.exit !== null
      const verdict = await this.operations.run(container.id, 'recover', () => this.#recovery.recover(container))
      const { exit } = container.status
      if (verdict === 'watch') this.watch(container)
      else if (verdict === 'rollback') await this.rollback(container, 'the daemon ended while it was being created')
      else if (verdict === 'remove') await this.remove(container)
      else if (exit && !hadEnded) this.emit('STOPPED', container, exit.atNs)
      return verdict
    } catch (error) {
      container.quarantine(`it cannot be recovered: ${errorMessage(error)}`)
      this.#owed.add(container.id)
      return 'leave'
    }
  }
}
