import { setMaxListeners } from 'node:events'
import type { Logger } from 'pino'
import type { ControllerRegistry } from '../controller/registry.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import type { Observer } from '../core/observer.ts'
import type { Sealer } from '../core/seal.ts'
import { nowNs } from '../core/now.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import { Operations } from '../lifecycle/operations.ts'
import { OwedReleases } from '../lifecycle/owed.ts'
import type { Releaser } from '../lifecycle/release.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { ControlledSandboxes } from './kinds/controlled.ts'
import type { LoadedSandbox } from './load.ts'
import type { SandboxRoots } from './paths.ts'
import { Recovery, type Verdict } from './recovery.ts'
import { Sandbox } from './sandbox.ts'
import { isListed, SandboxIndex } from './sandbox-index.ts'
import type { SandboxStatus } from './status.ts'
import { Teardown } from './teardown.ts'

export interface LifeOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
  readonly stopGraceMs: number
  readonly releaseMs: number
  readonly recoveryConcurrency: number
  readonly lastCreatedAtNs: bigint
}

export interface LifeDeps {
  /** Default: nobody. */
  readonly observer?: Observer | undefined
  readonly durable: DurableDeps
  readonly sealer: Sealer
  readonly failpoints: Failpoints
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly releaser: Releaser
  readonly containers: PodContainers
  readonly onEvent: (event: LifecycleEvent) => void
  /** A sandbox has been ended, or that was tried. */
  readonly onEnd: (sandboxId: string) => void
  readonly logger: Logger
}

/** The containers of a sandbox, as its end concerns them. */
export interface PodContainers {
  /** Ends them all; none comes to the sandbox from here on. @throws CodedError when one cannot be ended. */
  stopPod(sandboxId: string): Promise<void>
  /** Removes them all. What of them cannot be released yet keeps the sandbox on record. */
  removePod(sandboxId: string): Promise<void>
  /** The sandbox is gone. */
  forgetPod(sandboxId: string): void
}

/**
 * What is done with all sandboxes alike, whoever has asked for them: they are watched, stopped, removed, taken back and
 * recovered.
 */
export class SandboxLife implements AsyncDisposable {
  readonly operations: Operations
  /** Those of our own CRI. */
  readonly index = new SandboxIndex()
  /** Those that are served to other front ends, by their ids. */
  readonly served = new Map<string, Sandbox>()
  readonly #options: LifeOptions
  readonly #deps: LifeDeps
  /** The sandboxes of earlier daemons. */
  readonly #restored = new Set<string>()
  #progress = { total: 0, done: 0 }
  readonly #owed: OwedReleases
  readonly #teardown: Teardown
  readonly #recovery: Recovery
  /** Resolves, for each sandbox whose end is watched for, when that end is on record. */
  readonly #exits = new Map<Sandbox, Promise<void>>()
  readonly #closing = new AbortController()
  #lastCreatedAtNs: bigint

  constructor(options: LifeOptions, deps: LifeDeps) {
    this.#options = options
    this.#deps = deps
    this.#lastCreatedAtNs = options.lastCreatedAtNs
    this.operations = new Operations(deps)
    // Every sandbox that is watched listens to it.
    setMaxListeners(0, this.#closing.signal)
    this.#owed = new OwedReleases((id) => this.#releaseOwed(id))
    const exitSaved = async (sandbox: Sandbox): Promise<void> => this.#exits.get(sandbox)
    this.#teardown = new Teardown(options, { ...deps, exitSaved })
    this.#recovery = new Recovery(options, deps)
  }

  /** Whoever asked for them. */
  all(): Sandbox[] {
    return [...this.index.all(), ...this.served.values()]
  }

  /** Whether an id is taken. */
  has(id: string): boolean {
    return this.served.has(id) || this.index.byId(id) !== undefined
  }

  add(sandbox: Sandbox): void {
    if (sandbox.metadata.served) this.served.set(sandbox.id, sandbox)
    else this.index.add(sandbox)
  }

  /** How many owe a release. */
  get owed(): number {
    return this.#owed.size
  }

  /** Goes on now with what one owes. Outside of operations; throws nothing. */
  async retryOwed(id: string): Promise<void> {
    await this.#owed.retryNow(id)
  }

  /** How many an earlier daemon has left, and how many of them have been looked at. */
  get recovery(): { readonly total: number; readonly done: number } {
    return this.#progress
  }

  /** Later than any before, also when the clock was set back: callers take the youngest of a pod for the current one. */
  nextCreatedAtNs(): bigint {
    const now = nowNs()
    this.#lastCreatedAtNs = now > this.#lastCreatedAtNs ? now : this.#lastCreatedAtNs + 1n
    return this.#lastCreatedAtNs
  }

  /** Takes up the sandboxes that are on record. What became of them is found out by {@link recover}. */
  async restore(loaded: readonly LoadedSandbox[]): Promise<void> {
    for (const { record, hasRow } of loaded) {
      const sandbox = new Sandbox(record, this.#deps.durable)
      this.add(sandbox)
      this.#restored.add(sandbox.id)
      this.#recovery.adopt(sandbox)
      if (!hasRow) await this.#insertFound(sandbox)
      if (record.metadata.createdAtNs > this.#lastCreatedAtNs) this.#lastCreatedAtNs = record.metadata.createdAtNs
    }
  }

  /** Puts a sandbox that was found without a row on record again. Without one it is still there to be removed. */
  async #insertFound(sandbox: Sandbox): Promise<void> {
    try {
      await sandbox.insert()
      this.#deps.logger.warn({ sandboxId: sandbox.id }, 'sandbox had no row: restored from what was found of it')
    } catch (error) {
      sandbox.quarantine(errorMessage(error))
    }
  }

  /** Finds out how the restored sandboxes are, several at a time. One that cannot be found out about delays no other. */
  async recover(): Promise<void> {
    // Requests are served meanwhile: what they make is nothing that an earlier daemon has left.
    const waiting = this.all().filter(({ id }) => this.#restored.has(id))
    this.#progress = { total: waiting.length, done: 0 }
    const worker = async (): Promise<void> => {
      for (let sandbox = waiting.pop(); sandbox && !this.#closing.signal.aborted; sandbox = waiting.pop()) {
        await this.#recoverOne(sandbox)
        this.#progress.done++
      }
    }
    await Promise.all(Array.from({ length: this.#options.recoveryConcurrency }, worker))
  }

  /** Inside an operation. @throws CodedError when a process or a container could not be ended. */
  async stop(sandbox: Sandbox, graceMs?: number): Promise<void> {
    if (sandbox.status.state === 'REMOVING') return
    // A container that cannot be ended does not keep the rest from being released.
    const containers = await settle(this.#deps.containers.stopPod(sandbox.id))
    await this.#teardown.stop(sandbox, graceMs).finally(() => this.#deps.onEnd(sandbox.id))
    if (containers.failed) throw containers.error
    if (owes(sandbox)) this.#owed.add(sandbox.id)
    else this.#owed.settle(sandbox.id)
  }

  /** Inside an operation. What cannot be released yet is owed. Returns whether nothing is left. */
  async remove(sandbox: Sandbox): Promise<boolean> {
    const wasListed = isListed(sandbox)
    await this.#deps.containers.removePod(sandbox.id)
    const gone = await this.#teardown.remove(sandbox).finally(() => this.#deps.onEnd(sandbox.id))
    if (wasListed) this.#deps.onEvent(podEvent('DELETED', sandbox.id))
    this.#settle(sandbox, gone)
    return gone
  }

  /** Inside an operation: takes back what was made of one whose creation or start did not end well, and why. */
  async takeBack(sandbox: Sandbox, why: string): Promise<void> {
    this.#settle(sandbox, await this.#teardown.rollback(sandbox, why))
  }

  async rollback(sandbox: Sandbox, why: string): Promise<void> {
    await this.operations.run(sandbox.id, 'rollback', () => this.takeBack(sandbox, why))
  }

  /** Finds out about one anew, as after a restart: what was written of it has been changed. Outside of operations. */
  async examine(sandbox: Sandbox): Promise<void> {
    if (this.served.get(sandbox.id) === sandbox || this.index.byId(sandbox.id) === sandbox) {
      await this.#recoverOne(sandbox)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owed[Symbol.dispose]()
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
  }

  #settle(sandbox: Sandbox, gone: boolean): void {
    if (!gone) return this.#owed.add(sandbox.id)
    this.#owed.settle(sandbox.id)
    if (sandbox.metadata.served) this.served.delete(sandbox.id)
    else this.index.delete(sandbox)
    this.#deps.containers.forgetPod(sandbox.id)
  }

  /** Goes on with what a stop, a removal or a rollback could not release. Returns whether nothing is owed any more. */
  async #releaseOwed(id: string): Promise<boolean> {
    const sandbox = this.served.get(id) ?? this.index.byId(id)
    if (!sandbox) return true
    try {
      if (sandbox.status.state === 'REMOVING') {
        return await this.operations.run(id, 'remove', () => this.remove(sandbox))
      }
      await this.operations.run(id, 'stop', () => this.stop(sandbox))
      return !owes(sandbox)
    } catch (error) {
      this.#deps.logger.warn({ sandboxId: id, error: errorMessage(error) }, 'owed release failed')
      return false
    }
  }

  async #recoverOne(sandbox: Sandbox): Promise<void> {
    let verdict: Verdict
    try {
      verdict = await this.#recovery.recover(sandbox)
      if (verdict === 'watch') this.watch(sandbox, sandbox.status.process)
    } catch (error) {
      // It may run, and is not to be ended for that.
      return sandbox.quarantine(`it cannot be recovered: ${errorMessage(error)}`)
    }
    try {
      if (verdict === 'rollback') await this.rollback(sandbox, 'the daemon ended while it was being created')
      else if (verdict === 'remove') await this.operations.run(sandbox.id, 'remove', () => this.remove(sandbox))
      else if (verdict === 'stop') await this.operations.run(sandbox.id, 'stop', () => this.stop(sandbox))
    } catch (error) {
      this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'sandbox cannot be ended')
      this.#owed.add(sandbox.id)
    }
  }

  /** Watches for the end of a sandbox, and puts it on record. Nothing for one that is watched already. */
  watch(sandbox: Sandbox, process: ProcessIdentity | null): void {
    if (this.#exits.has(sandbox)) return
    const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
    if (!entry) return
    const { sandboxer, record } = this.#deps.controlled.parse(entry.record)
    const controller = this.#deps.registry.get(sandboxer)
    if (process === null && !controller.remote) return
    const onReachable = (reachable: boolean, problem: string): void => this.#noteReachable(sandbox, reachable, problem)
    const ended = controller.wait(record, process, this.#closing.signal, onReachable)
    const saved = ended.then(async (exit) => {
      await sandbox.note({
        status: (current) =>
          current.exit ? current : { ...current, state: current.state === 'REMOVING' ? 'REMOVING' : 'STOPPED', exit },
        log: { why: 'its process ended' },
      })
      if (isListed(sandbox)) this.#deps.onEvent(podEvent('STOPPED', sandbox.id, exit.atNs))
    })
    const watched = saved.catch((error: unknown) => {
      if (this.#closing.signal.aborted) return
      this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'end of sandbox was not seen')
    })
    this.#exits.set(
      sandbox,
      watched.finally(() => this.#exits.delete(sandbox)),
    )
  }

  /** A remote sandbox that cannot be observed is neither running nor ended: nobody knows. */
  #noteReachable(sandbox: Sandbox, reachable: boolean, problem: string): void {
    const change = (current: SandboxStatus): SandboxStatus => {
      if (current.exit) return current
      const isUnseen = current.state === 'PENDING' || (current.state === 'UNKNOWN' && current.visible)
      if (reachable) return isUnseen ? { ...current, state: 'RUNNING' } : current
      return current.state === 'RUNNING' || current.state === 'UNKNOWN' ? { ...current, state: 'PENDING' } : current
    }
    const { sandboxer } = sandbox.metadata
    const why = reachable ? 'its sandboxer answers' : `its sandboxer does not answer: ${problem}`
    void sandbox.note({ status: change, put: reachable ? this.#refreshed(sandbox) : [], log: { why, sandboxer } })
  }

  /** What a remote peer has told of a started sandbox may be other than what it told before it was lost. */
  #refreshed(sandbox: Sandbox): LedgerEntry[] {
    const entry = sandbox.entries.find(({ kind, state }) => kind === 'controller' && state === 'held')
    if (!entry) return []
    const { sandboxer, record } = this.#deps.controlled.parse(entry.record)
    const told = { sandboxer, record: this.#deps.registry.get(sandboxer).startedRecord?.(record) ?? record }
    return canonicalJson(told) === canonicalJson(entry.record) ? [] : [{ ...entry, record: told }]
  }
}

/** Something happened to a sandbox of our own CRI. */
export function podEvent(type: LifecycleEvent['type'], id: string, atNs = nowNs()): LifecycleEvent {
  return { type, containerId: id, sandboxId: id, atNs }
}

/** How a promise ends. */
async function settle(promise: Promise<void>): Promise<{ readonly failed: boolean; readonly error?: unknown }> {
  return promise.then(
    () => ({ failed: false }),
    (error: unknown) => ({ failed: true, error }),
  )
}

/** Whether a release has begun and is not confirmed. */
function owes(sandbox: Sandbox): boolean {
  return sandbox.entries.some(({ state }) => state === 'releasing')
}
