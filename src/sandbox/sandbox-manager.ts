import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import type { ControllerRegistry } from '../controller/registry.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import type { ProcessIdentity } from '../host/process.ts'
import { Connections } from './connections.ts'
import type { ControlledSandboxes } from './kinds/controlled.ts'
import type { LoadedSandbox } from './load.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import { Operations } from '../lifecycle/operations.ts'
import { OwedReleases } from '../lifecycle/owed.ts'
import type { SandboxRoots } from './paths.ts'
import { Recovery } from './recovery.ts'
import type { Releaser } from '../lifecycle/release.ts'
import { type RunDeps, type RunPlan, RunSequence } from './run.ts'
import { Sandbox } from './sandbox.ts'
import { isListed, isReady, matches, SandboxIndex } from './sandbox-index.ts'
import { sandboxInfo } from './sandbox-info.ts'
import type { SandboxStatus } from './status.ts'
import { Steps } from '../lifecycle/steps.ts'
import { Teardown } from './teardown.ts'
import type { PodResources, PodSandboxConfig, SandboxFilter, SandboxInfo, Sandboxes, SandboxView } from './types.ts'

export interface ManagerOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
  readonly defaultRuntimeHandler: string
  /** The sandboxer behind each runtime handler. */
  readonly sandboxers: ReadonlyMap<string, string>
  readonly runTimeoutMs: number
  readonly stopGraceMs: number
  readonly releaseMs: number
  readonly recoveryConcurrency: number
}

export interface ManagerDeps {
  readonly run: RunDeps
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly releaser: Releaser
  readonly containers: PodContainers
  readonly kernel: Pick<Kernel, 'tcpSocket'>
  readonly onEvent: (event: LifecycleEvent) => void
  readonly logger: Logger
}

/** From the first SYN to a port of a pod. */
const CONNECT_MS = 10_000

/** The containers of a sandbox, as its end concerns them. */
export interface PodContainers {
  /** Ends them all; none comes to the sandbox from here on. @throws CodedError when one cannot be ended. */
  stopPod(sandboxId: string): Promise<void>
  /** Removes them all. What of them cannot be released yet keeps the sandbox on record. */
  removePod(sandboxId: string): Promise<void>
  /** The sandbox is gone. */
  forgetPod(sandboxId: string): void
}

interface RunUnderWay {
  readonly fingerprint: string
  readonly promise: Promise<string>
}

/** The sandboxes of the node and everything that is done with them. Reads come from memory and wait for nothing. */
export class SandboxManager implements Sandboxes, AsyncDisposable {
  readonly #options: ManagerOptions
  readonly #deps: ManagerDeps
  readonly #index = new SandboxIndex()
  /** The sandboxes of earlier daemons. */
  readonly #restored = new Set<string>()
  readonly #operations: Operations
  readonly #owed: OwedReleases
  readonly #teardown: Teardown
  readonly #recovery: Recovery
  readonly #connections: Connections
  readonly #runs = new Map<string, RunUnderWay>()
  /** Resolves, for each sandbox whose end is watched for, when that end is on record. */
  readonly #exits = new Map<string, Promise<void>>()
  readonly #closing = new AbortController()
  #lastCreatedAtNs: bigint

  constructor(options: ManagerOptions & { readonly lastCreatedAtNs: bigint }, deps: ManagerDeps) {
    this.#options = options
    this.#deps = deps
    this.#lastCreatedAtNs = options.lastCreatedAtNs
    this.#operations = new Operations({ logger: deps.logger })
    this.#owed = new OwedReleases((id) => this.#releaseOwed(id))
    const exitSaved = async (sandbox: Sandbox): Promise<void> => this.#exits.get(sandbox.id)
    this.#teardown = new Teardown(options, { ...deps, failpoints: deps.run.failpoints, exitSaved })
    this.#recovery = new Recovery(options, { ...deps, sealer: deps.run.sealer })
    this.#connections = new Connections({ timeoutMs: CONNECT_MS }, deps)
  }

  /**
   * Takes up the sandboxes that are on record. They can be read when this returns; what became of them is found out
   * by {@link recover}.
   */
  async restore(loaded: readonly LoadedSandbox[]): Promise<void> {
    for (const { record, hasRow } of loaded) {
      const sandbox = new Sandbox(record, this.#deps.run.sandboxDeps)
      this.#index.add(sandbox)
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
    const waiting = this.#index.all().filter(({ id }) => this.#restored.has(id))
    const worker = async (): Promise<void> => {
      for (let sandbox = waiting.pop(); sandbox && !this.#closing.signal.aborted; sandbox = waiting.pop()) {
        await this.#recoverOne(sandbox)
      }
    }
    await Promise.all(Array.from({ length: this.#options.recoveryConcurrency }, worker))
  }

  async run(
    request: { readonly config: PodSandboxConfig; readonly runtimeHandler: string },
    signal: AbortSignal,
  ): Promise<string> {
    signal.throwIfAborted()
    const steps = new Steps('run', this.#deps.run.failpoints)
    const plan = steps.plan('prepareSandboxData', () => this.#plan(request))
    const { name } = plan.metadata
    const fingerprint = fingerprintOf(request)
    const underWay = this.#runs.get(name)
    if (underWay) {
      if (underWay.fingerprint !== fingerprint) throw nameTaken(name, 'with another configuration')
      return waitFor(underWay.promise, signal)
    }
    const existing = this.#index.byName(name)
    if (existing) {
      const id = await waitFor(this.#reuse(existing, fingerprint), signal)
      if (id !== undefined) return id
      // Several callers may have waited for the one before to go: only the first begins anew.
      return this.run(request, signal)
    }
    const promise = this.#runToItsEnd(plan, steps).finally(() => this.#runs.delete(name))
    // It goes on, and may fail, also when nobody waits for it any more.
    promise.catch(() => undefined)
    this.#runs.set(name, { fingerprint, promise })
    return waitFor(promise, signal)
  }

  async stop(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = this.#visible(id)
    if (!sandbox) return
    await waitFor(
      this.#operations.run(sandbox.id, 'stop', () => this.#stop(sandbox)),
      signal,
    )
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = this.#visible(id)
    if (!sandbox) return
    await waitFor(
      this.#operations.run(sandbox.id, 'remove', () => this.#remove(sandbox)),
      signal,
    )
  }

  async updateResources(id: string, resources: PodResources, signal: AbortSignal): Promise<void> {
    const sandbox = this.find(id)
    if (!isReady(sandbox)) {
      throw new CodedError('FailedPrecondition', `update the resources of pod sandbox ${sandbox.id}: it is not ready`)
    }
    await waitFor(sandbox.save({ status: (current) => ({ ...current, resources }) }), signal)
  }

  async connect(id: string, port: number, signal: AbortSignal): Promise<Socket> {
    return this.#connections.connect(this.find(id), port, signal)
  }

  get(id: string): SandboxView {
    return this.find(id).view
  }

  async info(id: string, signal: AbortSignal): Promise<SandboxInfo> {
    const { registry, controlled, run } = this.#deps
    return sandboxInfo(this.find(id), { roots: this.#options.roots, sealer: run.sealer, registry, controlled }, signal)
  }

  list(filter: SandboxFilter): SandboxView[] {
    return this.#index
      .all()
      .filter((sandbox) => isListed(sandbox) && matches(sandbox, filter))
      .map(({ view }) => view)
      .sort((a, b) => (a.metadata.createdAtNs < b.metadata.createdAtNs ? 1 : -1))
  }

  /** How many sandboxes there are in each state, how many are being made, and how many owe a release. */
  counts(): Readonly<Record<string, unknown>> {
    const states: Record<string, number> = {}
    for (const { status } of this.#index.all()) states[status.state] = (states[status.state] ?? 0) + 1
    return { sandboxes: states, running: this.#runs.size, owed: this.#owed.size }
  }

  /** All sandboxes, also those that the CRI does not show. */
  all(): readonly Sandbox[] {
    return this.#index.all()
  }

  /** Waits for what is under way, then stops watching. Touches no sandbox. */
  async drain(signal: AbortSignal): Promise<void> {
    const runs = [...this.#runs.values()].map(({ promise }) => promise.catch(() => undefined))
    await waitFor(Promise.all([...runs, this.#operations.idle()]), signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owed[Symbol.dispose]()
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
  }

  /** A sandbox that is being made, or taken back, belongs to its run: nobody else has been told of it. */
  #visible(id: string): Sandbox | undefined {
    const sandbox = this.#index.find(id)
    return sandbox?.status.visible ? sandbox : undefined
  }

  /** A sandbox that the CRI shows. @throws CodedError as {@link get}. */
  find(id: string): Sandbox {
    const sandbox = this.#index.find(id)
    if (sandbox && isListed(sandbox)) return sandbox
    throw new CodedError('NotFound', `pod sandbox ${id}: there is none`)
  }

  /** Everything that can be refused is refused here, before anything is reserved or made. */
  #plan({ config, runtimeHandler }: { config: PodSandboxConfig; runtimeHandler: string }): RunPlan {
    if (!config.metadata) throw invalidField('config.metadata', 'must be given')
    const handler = runtimeHandler || this.#options.defaultRuntimeHandler
    const sandboxer = this.#options.sandboxers.get(handler)
    if (sandboxer === undefined) {
      const known = [...this.#options.sandboxers.keys()].join(', ')
      throw new CodedError('NotFound', `runtime_handler: ${handler} is not one of ${known}`)
    }
    const { name, namespace, uid, attempt } = config.metadata
    const netMode = config.linux?.security_context?.namespace_options?.network === 'NODE' ? 'host' : 'cni'
    const id = randomBytes(32).toString('hex')
    return {
      controller: this.#deps.registry.get(sandboxer),
      runtimeHandler: handler,
      metadata: {
        id,
        name: `k8s_POD_${name}_${namespace}_${uid}_${attempt}`,
        config,
        runtimeHandler,
        sandboxer,
        netMode,
        netnsPath: netMode === 'cni' ? this.#deps.run.netns.plan(id).path : '',
        createdAtNs: this.#nextCreatedAt(),
      },
    }
  }

  /** Later than any before, also when the clock was set back: callers take the youngest of a pod for the current one. */
  #nextCreatedAt(): bigint {
    const now = nowNs()
    this.#lastCreatedAtNs = now > this.#lastCreatedAtNs ? now : this.#lastCreatedAtNs + 1n
    return this.#lastCreatedAtNs
  }

  /** The id of a sandbox that has the name already and is what was asked for; undefined once the name is free. */
  async #reuse(existing: Sandbox, fingerprint: string): Promise<string | undefined> {
    const { name, config, runtimeHandler } = existing.metadata
    if (isListed(existing) && isReady(existing)) {
      if (fingerprintOf({ config, runtimeHandler }) === fingerprint) return existing.id
      throw nameTaken(name, 'with another configuration')
    }
    if (isListed(existing) && existing.status.failure === '') throw nameTaken(name, 'and is stopped: remove it first')
    // A failed creation, or a removal, that could not be finished: nobody waits for it but us.
    await this.#operations.run(existing.id, 'remove', () => this.#remove(existing))
    if (this.#index.byName(name) === existing) {
      throw new CodedError('Unavailable', `pod sandbox ${name}: what an earlier attempt left cannot be released yet`)
    }
    return undefined
  }

  async #runToItsEnd(plan: RunPlan, steps: Steps): Promise<string> {
    const { id, name } = plan.metadata
    const log = this.#deps.logger.child({ sandboxId: id })
    const observer = {
      recorded: (sandbox: Sandbox) => this.#index.add(sandbox),
      started: (sandbox: Sandbox, process: ProcessIdentity | null) => this.#watch(sandbox, process),
    }
    const sequence = new RunSequence(plan, steps, observer, this.#options, this.#deps.run)
    using limit = deadline(`run pod sandbox ${name}`, this.#options.runTimeoutMs)
    try {
      await sequence.run(limit.signal)
    } catch (error) {
      log.error({ name, error: errorMessage(error), steps: steps.timings }, 'pod sandbox failed')
      if (sequence.sandbox) await this.#rollback(sequence.sandbox, errorMessage(error))
      else await sequence.forget()
      throw error
    }
    log.info({ name, sandboxer: plan.metadata.sandboxer, steps: steps.timings }, 'pod sandbox runs')
    this.#emit('CREATED', id)
    this.#emit('STARTED', id)
    return id
  }

  async #rollback(sandbox: Sandbox, why: string): Promise<boolean> {
    return this.#operations.run(sandbox.id, 'rollback', async () => {
      const gone = await this.#teardown.rollback(sandbox, why)
      this.#settle(sandbox, gone)
      return gone
    })
  }

  async #stop(sandbox: Sandbox): Promise<void> {
    if (sandbox.status.state === 'REMOVING') return
    // A container that cannot be ended does not keep the rest from being released.
    const containers = await settle(this.#deps.containers.stopPod(sandbox.id))
    await this.#teardown.stop(sandbox).finally(() => this.#connections.end(sandbox.id))
    if (containers.failed) throw containers.error
    this.#deps.logger.info({ sandboxId: sandbox.id }, 'pod sandbox stopped')
    if (owes(sandbox)) this.#owed.add(sandbox.id)
    else this.#owed.settle(sandbox.id)
  }

  async #remove(sandbox: Sandbox): Promise<boolean> {
    const wasListed = isListed(sandbox)
    await this.#deps.containers.removePod(sandbox.id)
    const gone = await this.#teardown.remove(sandbox).finally(() => this.#connections.end(sandbox.id))
    this.#deps.logger.info({ sandboxId: sandbox.id, gone }, 'pod sandbox removed')
    if (wasListed) this.#emit('DELETED', sandbox.id)
    this.#settle(sandbox, gone)
    return gone
  }

  #settle(sandbox: Sandbox, gone: boolean): void {
    if (!gone) return this.#owed.add(sandbox.id)
    this.#owed.settle(sandbox.id)
    this.#index.delete(sandbox)
    this.#deps.containers.forgetPod(sandbox.id)
  }

  /** Goes on with what a stop, a removal or a rollback could not release. Returns whether nothing is owed any more. */
  async #releaseOwed(id: string): Promise<boolean> {
    const sandbox = this.#index.find(id)
    if (!sandbox) return true
    try {
      if (sandbox.status.state === 'REMOVING') {
        return await this.#operations.run(id, 'remove', () => this.#remove(sandbox))
      }
      await this.#operations.run(id, 'stop', () => this.#stop(sandbox))
      return !owes(sandbox)
    } catch (error) {
      this.#deps.logger.warn({ sandboxId: id, error: errorMessage(error) }, 'owed release failed')
      return false
    }
  }

  async #recoverOne(sandbox: Sandbox): Promise<void> {
    try {
      const verdict = await this.#recovery.recover(sandbox)
      if (verdict === 'watch') this.#watch(sandbox, sandbox.status.process)
      else if (verdict === 'rollback') await this.#rollback(sandbox, 'the daemon ended while it was being created')
      else if (verdict === 'remove') await this.#operations.run(sandbox.id, 'remove', () => this.#remove(sandbox))
      else if (verdict === 'stop') await this.#operations.run(sandbox.id, 'stop', () => this.#stop(sandbox))
    } catch (error) {
      this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'sandbox cannot be recovered')
      this.#owed.add(sandbox.id)
    }
  }

  /** Watches for the end of a sandbox, and puts it on record. */
  #watch(sandbox: Sandbox, process: ProcessIdentity | null): void {
    const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
    if (!entry) return
    const { sandboxer, record } = this.#deps.controlled.parse(entry.record)
    const controller = this.#deps.registry.get(sandboxer)
    if (process === null && !controller.remote) return
    const onReachable = (reachable: boolean): void => this.#noteReachable(sandbox, reachable)
    const ended = controller.wait(record, process, this.#closing.signal, onReachable)
    const saved = ended.then(async (exit) => {
      await sandbox.note({
        status: (current) =>
          current.exit ? current : { ...current, state: current.state === 'REMOVING' ? 'REMOVING' : 'STOPPED', exit },
      })
      this.#deps.logger.info({ sandboxId: sandbox.id, ...exit, atNs: exit.atNs.toString() }, 'sandbox ended')
      if (sandbox.status.visible) this.#emit('STOPPED', sandbox.id, exit.atNs)
    })
    const watched = saved.catch((error: unknown) => {
      if (this.#closing.signal.aborted) return
      this.#deps.logger.error({ sandboxId: sandbox.id, error: errorMessage(error) }, 'end of sandbox was not seen')
    })
    this.#exits.set(
      sandbox.id,
      watched.finally(() => this.#exits.delete(sandbox.id)),
    )
  }

  #emit(type: LifecycleEvent['type'], id: string, atNs = nowNs()): void {
    this.#deps.onEvent({ type, containerId: id, sandboxId: id, atNs })
  }

  /** A remote sandbox that cannot be observed is neither running nor ended: nobody knows. */
  #noteReachable(sandbox: Sandbox, reachable: boolean): void {
    const change = (current: SandboxStatus): SandboxStatus => {
      if (current.exit) return current
      const isUnseen = current.state === 'PENDING' || (current.state === 'UNKNOWN' && current.visible)
      if (reachable) return isUnseen ? { ...current, state: 'RUNNING' } : current
      return current.state === 'RUNNING' || current.state === 'UNKNOWN' ? { ...current, state: 'PENDING' } : current
    }
    if (change(sandbox.status) !== sandbox.status) {
      const log = { sandboxId: sandbox.id, sandboxer: sandbox.metadata.sandboxer }
      if (reachable) this.#deps.logger.info(log, 'sandbox can be observed again')
      else this.#deps.logger.warn(log, 'sandbox cannot be observed: its sandboxer does not answer')
    }
    void sandbox.note({ status: change })
  }
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

function fingerprintOf(request: { config: PodSandboxConfig; runtimeHandler: string }): string {
  return canonicalJson([request.config, request.runtimeHandler])
}

function nameTaken(name: string, why: string): CodedError {
  return new CodedError('AlreadyExists', `pod sandbox ${name}: there is one of that name ${why}`)
}
