import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ProcessStreams, StreamedExecRequest, StreamsWanted } from '../executor/types.ts'
import type { ProcessCheckpoints } from '../executor/process-checkpoints.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import { Operations } from '../lifecycle/operations.ts'
import { OwedReleases } from '../lifecycle/owed.ts'
import type { Releaser } from '../lifecycle/release.ts'
import type { Checkpoints } from './checkpoint/checkpoints.ts'
import { Container } from './container.ts'
import { ContainerIndex, isListed } from './container-index.ts'
import { containerInfo } from './container-info.ts'
import type { CheckpointedState, CreateDeps } from './create.ts'
import { Creations, type CreationsOptions } from './creations.ts'
import { ExitRecorder } from './exit-recorder.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { type CheckpointWork, LiveOperations } from './live-operations.ts'
import type { LoadedContainer } from './load.ts'
import type { Orphans } from './orphans.ts'
import type { Pod, Pods } from './pods.ts'
import { ProcessRestores } from './checkpoint/process-restores.ts'
import { Recoveries } from './recoveries.ts'
import { Recovery, type Verdict } from './recovery.ts'
import { StopGrace } from './stop-grace.ts'
import { hasFailed } from './status.ts'
import { Teardown } from './teardown.ts'
import type {
  CheckpointPod,
  ContainerConfig,
  ContainerFilter,
  ContainerInfo,
  ContainerResources,
  Containers,
  ContainerView,
  ExecResult,
} from './types.ts'

export interface ManagerOptions extends CreationsOptions {
  /** One checkpoint, or the start of a restored container. */
  readonly checkpointMs: number
  readonly recoveryConcurrency: number
}

export interface ManagerDeps {
  readonly create: CreateDeps
  readonly pods: Pods
  readonly executed: ExecutedContainers
  readonly orphans: Orphans
  readonly processes: ProcessCheckpoints
  readonly checkpoints: Checkpoints
  readonly releaser: Releaser
  readonly run: RunProgram
  readonly onEvent: (event: LifecycleEvent) => void
  readonly logger: Logger
}

/** The containers of the node and everything that is done with them. Reads come from memory and wait for nothing. */
export class ContainerManager implements Containers, AsyncDisposable {
  readonly #options: ManagerOptions
  readonly #deps: ManagerDeps
  readonly #index = new ContainerIndex()
  /** The containers of earlier daemons. */
  readonly #restored = new Set<string>()
  readonly #operations: Operations
  readonly #creations: Creations
  readonly #live: LiveOperations
  readonly #owed: OwedReleases
  readonly #teardown: Teardown
  readonly #recovery: Recovery
  readonly #recoveries: Recoveries
  readonly #exits: ExitRecorder
  /** The grace periods of the stops that are under way, by container. */
  readonly #graces = new Map<string, StopGrace>()
  /** Sandboxes that are being stopped, or were: no container comes to them any more. */
  readonly #closedPods = new Set<string>()
  readonly #closing = new AbortController()

  constructor(options: ManagerOptions, deps: ManagerDeps) {
    this.#options = options
    this.#deps = deps
    const { executor, bundles, failpoints } = deps.create
    this.#operations = new Operations({ prefix: 'container-', observer: deps.create.observer })
    this.#creations = new Creations(options, {
      ...deps.create,
      index: this.#index,
      logger: deps.logger,
      onProcess: (container, process) => void this.#exits.watch(container, process),
      onCreated: (container) => this.#emit('CREATED', container, container.metadata.createdAtNs),
      rollback: (container, why) => this.#rollback(container, why),
      remove: (container) => this.#remove(container),
    })
    this.#live = new LiveOperations(
      { timeoutMs: options.createTimeoutMs, checkpointMs: options.checkpointMs },
      {
        ...deps,
        executor,
        bundles,
        failpoints,
        restores: new ProcessRestores(options, { ...deps, executor }),
        uncertain: (container) => this.#recoveries.later(container),
      },
    )
    this.#owed = new OwedReleases((id) => this.#releaseOwed(id))
    this.#exits = new ExitRecorder({
      ...deps,
      executor,
      signal: this.#closing.signal,
      onEnded: (container) => this.#emit('STOPPED', container, container.status.exit?.atNs),
    })
    this.#teardown = new Teardown({
      ...deps,
      executor,
      failpoints,
      ended: (container, process) => this.#exits.watch(container, process),
      killing: (container) => this.#exits.killing(container),
    })
    this.#recovery = new Recovery(options, { ...deps, executor })
    this.#recoveries = new Recoveries(
      { concurrency: options.recoveryConcurrency, signal: this.#closing.signal },
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
      const container = new Container(record, this.#deps.create.durable)
      this.#index.add(container)
      this.#restored.add(container.id)
      this.#recovery.adopt(container)
      this.#creations.noteCreatedAt(record.metadata.createdAtNs)
      if (!hasRow) await this.#insertFound(container)
    }
  }

  /** See {@link Recoveries.recover}. */
  async recover(): Promise<void> {
    // Requests are served meanwhile: what they make is nothing that an earlier daemon has left.
    await this.#recoveries.recover(this.#index.all().filter(({ id }) => this.#restored.has(id)))
  }

  async create(
    request: { readonly sandboxId: string; readonly config: ContainerConfig },
    signal: AbortSignal,
  ): Promise<string> {
    signal.throwIfAborted()
    return this.#creations.create(() => this.#openPod(request.sandboxId), request.config, signal)
  }

  async start(id: string, signal: AbortSignal): Promise<void> {
    const container = this.#listed(id)
    const start = async (): Promise<void> => {
      this.#openPod(container.metadata.sandboxId)
      this.#emit('STARTED', container, await this.#live.start(container))
      this.#exits.started(container)
      // One that is restored has got it only now.
      const { process } = container.status
      if (container.metadata.restored && process) void this.#exits.watch(container, process)
    }
    await waitFor(this.#operations.run(container.id, 'start', start), signal)
  }

  async stop(id: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const container = this.#visible(id)
    if (container) await waitFor(this.#stop(container, timeoutMs), signal)
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    const container = this.#visible(id)
    if (container) await waitFor(this.#remove(container), signal)
  }

  get(id: string): ContainerView {
    return this.#listed(id).view
  }

  async info(id: string, signal: AbortSignal): Promise<ContainerInfo> {
    return waitFor(containerInfo(this.#listed(id), this.#options.roots), signal)
  }

  list(filter: ContainerFilter): ContainerView[] {
    return this.#index.list(filter).map(({ view }) => view)
  }

  async updateResources(id: string, resources: ContainerResources, signal: AbortSignal): Promise<void> {
    const container = this.#listed(id)
    await waitFor(
      this.#alone(container, 'update', () => this.#live.update(container, resources)),
      signal,
    )
  }

  async execSync(
    id: string,
    request: { readonly command: readonly string[]; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ExecResult> {
    return this.#live.execSync(this.#listed(id), request, signal)
  }

  async exec(id: string, request: StreamedExecRequest, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#live.exec(this.#listed(id), request, signal)
  }

  async attach(id: string, wanted: StreamsWanted, signal: AbortSignal): Promise<ProcessStreams> {
    return this.#live.attach(this.#listed(id), wanted, signal)
  }

  async reopenLog(id: string, signal: AbortSignal): Promise<void> {
    await this.#live.reopenLog(this.#listed(id), signal)
  }

  async checkpoint(
    id: string,
    { location, timeoutMs }: { readonly location: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { checkpoints } = this.#deps
    const work: CheckpointWork = async (running, budgetMs, limit) => {
      for (const one of running) await checkpoints.ofContainer(one, { location, timeoutMs: budgetMs }, limit)
    }
    await this.#checkpoint([this.#listed(id)], timeoutMs, work, signal)
  }

  /** See {@link PodCheckpoints.checkpoint}. */
  async checkpointPod(request: CheckpointPod, signal: AbortSignal): Promise<void> {
    const { sandboxId, containerIds, outputPath } = request
    const pod = this.#openPod(sandboxId)
    const containers = containerIds.map((id, at) => {
      const container = this.#listed(id)
      if (container.metadata.sandboxId === pod.id) return container
      throw invalidField(`container_ids[${at}]`, `${container.id} is not in the pod sandbox ${pod.id}`)
    })
    const work: CheckpointWork = async (running, timeoutMs, limit) => {
      await this.#deps.checkpoints.ofPod(pod, running, { outputPath, timeoutMs }, limit)
    }
    await this.#checkpoint(containers, 0, work, signal)
  }

  /** Creates a container that goes on from a checkpointed state when it is started. Otherwise as {@link create}. */
  async createRestored(
    request: { readonly sandboxId: string; readonly config: ContainerConfig; readonly state: CheckpointedState },
    signal: AbortSignal,
  ): Promise<string> {
    const { sandboxId, config, state } = request
    return this.#creations.create(() => this.#openPod(sandboxId), config, signal, state)
  }

  /**
   * Ends all containers of a sandbox at once; no new one comes to it from here on.
   * @throws CodedError what the first threw that cannot be ended.
   */
  async stopPod(sandboxId: string): Promise<void> {
    await this.#closePod(sandboxId, async (container) => {
      await this.#stop(container, 0)
      await this.#operations.run(container.id, 'settle', () => this.#teardown.settle(container))
    })
  }

  /** Removes all containers of a sandbox. What of them cannot be released yet is owed, and keeps the sandbox on record. */
  async removePod(sandboxId: string): Promise<void> {
    await this.#closePod(sandboxId, (container) => this.#remove(container))
  }

  /** The sandbox is gone. */
  forgetPod(sandboxId: string): void {
    this.#closedPods.delete(sandboxId)
  }

  /** The ids of the containers that use an image. */
  usersOf(imageId: string): string[] {
    return this.#index
      .all()
      .filter(({ metadata }) => metadata.imageId === imageId || metadata.mountedImageIds.includes(imageId))
      .map(({ id }) => id)
  }

  /** How many owe the release of something. */
  get owed(): number {
    return this.#owed.size
  }

  /** Goes on now with what a container owes, instead of at its next turn. Outside of operations; throws nothing. */
  async retryOwed(id: string): Promise<void> {
    await this.#owed.retryNow(id)
  }

  /** All containers, also those that the CRI does not show. */
  all(): readonly Container[] {
    return this.#index.all()
  }

  /**
   * The pid of a running container of a pod, as whoever runs it has it.
   * @throws CodedError `FailedPrecondition` when it is not one, naming the field that asks for it.
   */
  async targetPid(id: string, sandboxId: string, signal: AbortSignal): Promise<number> {
    const container = this.#listed(id)
    const { metadata, status } = container
    const record = this.#deps.executed.of(container)
    if (metadata.sandboxId === sandboxId && status.state === 'RUNNING' && status.process && record) {
      if (await this.#deps.create.executor.isAlive(record, status.process, signal)) return status.process.pid
    }
    const field = 'config.linux.security_context.namespace_options.target_id'
    throw new CodedError('FailedPrecondition', `${field}: ${id} is no running container of this pod`)
  }

  /** How many containers there are in each state, how many are being made, and how many owe a release. */
  counts(): Readonly<Record<string, unknown>> {
    const containers: Record<string, number> = {}
    for (const { status } of this.#index.all()) containers[status.state] = (containers[status.state] ?? 0) + 1
    return { containers, containersCreating: this.#creations.size, containersOwed: this.#owed.size }
  }

  /** Runs work on an id, whether or not there is such a container, when no operation on it is under way. */
  async alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#operations.run(id, `examine ${randomBytes(8).toString('hex')}`, work)
  }

  /**
   * Finds out about one anew, as after a restart: what was written of it has been changed. Outside of operations.
   * @returns why it is not to be trusted, or `''`.
   */
  async examine(container: Container): Promise<string> {
    if ((await this.#recover(container)) === 'later') this.#recoveries.later(container)
    return container.quarantined
  }

  /** Waits for what is under way, then stops watching. Touches no container. */
  async drain(signal: AbortSignal): Promise<void> {
    await waitFor(Promise.all([this.#creations.settled(), this.#operations.idle()]), signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owed[Symbol.dispose]()
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
  }

  /** The sandbox, as long as containers may come to it. */
  #openPod(sandboxId: string): Pod {
    const pod = this.#deps.pods.get(sandboxId)
    if (pod.ready && !this.#closedPods.has(pod.id)) return pod
    throw new CodedError('FailedPrecondition', `pod_sandbox_id: pod sandbox ${pod.id} is not ready`)
  }

  /** Ends the containers of a sandbox, and those that are being made there; none comes to it any more. */
  async #closePod(sandboxId: string, end: (container: Container) => Promise<unknown>): Promise<void> {
    this.#closedPods.add(sandboxId)
    this.#creations.abort(sandboxId, new CodedError('Aborted', `pod sandbox ${sandboxId} is being stopped`))
    const visible = this.#index.ofSandbox(sandboxId).filter(({ status }) => status.visible)
    await settleAll([...visible.map(end), this.#creations.settled(sandboxId)])
    // What was made all the same, or could not be taken back whole.
    await settleAll(this.#index.ofSandbox(sandboxId).map(end))
  }

  /** A container that is being made, or taken back, belongs to its creation: nobody else has been told of it. */
  #visible(id: string): Container | undefined {
    const container = this.#index.find(id)
    return container?.status.visible ? container : undefined
  }

  #listed(id: string): Container {
    const container = this.#index.find(id)
    if (container && isListed(container)) return container
    throw new CodedError('NotFound', `container ${id}: there is none`)
  }

  /** Nobody else does anything with the containers meanwhile. */
  async #checkpoint(
    containers: readonly Container[],
    timeoutMs: number,
    work: CheckpointWork,
    signal: AbortSignal,
  ): Promise<void> {
    const turn = async (begin: () => Promise<void>): Promise<void> => {
      // In one order, so that no two wait for each other.
      const waiting = containers.toSorted((a, b) => (a.id < b.id ? -1 : 1))
      const next = async (): Promise<void> => {
        const container = waiting.shift()
        await (container ? this.#alone(container, 'checkpoint', next) : begin())
      }
      await next()
    }
    await this.#live.checkpoint(containers, timeoutMs, { turn, work }, signal)
  }

  /** An operation that nobody else asks for: it joins no other. */
  async #alone<T>(container: Container, kind: string, work: () => Promise<T>): Promise<T> {
    return this.#operations.run(container.id, `${kind} ${randomBytes(8).toString('hex')}`, work)
  }

  async #stop(container: Container, graceMs: number): Promise<void> {
    const { id } = container
    this.#live.interrupt(container)
    const grace = this.#graces.get(id) ?? new StopGrace(graceMs)
    grace.shorten(graceMs)
    this.#graces.set(id, grace)
    await this.#operations.run(id, 'stop', async () => {
      await this.#teardown.stop(container, grace).finally(() => this.#graces.delete(id))
    })
  }

  async #remove(container: Container): Promise<boolean> {
    const { id } = container
    this.#live.interrupt(container)
    // A stop with a long grace period is not waited for.
    this.#graces.get(id)?.shorten(0)
    return this.#operations.run(id, 'remove', async () => {
      const wasListed = isListed(container)
      const gone = await this.#teardown.remove(container)
      this.#settle(container, gone)
      if (wasListed) this.#emit('DELETED', container)
      return gone
    })
  }

  async #rollback(container: Container, why: string): Promise<boolean> {
    return this.#operations.run(container.id, 'rollback', async () => {
      const gone = await this.#teardown.rollback(container, why)
      this.#settle(container, gone)
      return gone
    })
  }

  #settle(container: Container, gone: boolean): void {
    if (!gone) return this.#owed.add(container.id)
    this.#owed.settle(container.id)
    this.#index.delete(container)
  }

  /** Goes on with what a removal or a rollback could not release. Returns whether nothing is owed any more. */
  async #releaseOwed(id: string): Promise<boolean> {
    const container = this.#index.find(id)
    if (!container) return true
    const { status } = container
    // Somebody has been told of it, and has not asked for its removal.
    if (status.visible && !status.removing && !hasFailed(status)) return true
    try {
      return await this.#remove(container)
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
    if (this.#index.find(container.id) !== container) return 'leave'
    try {
      const hadEnded = container.status.exit !== null
      const verdict = await this.#operations.run(container.id, 'recover', () => this.#recovery.recover(container))
      const { process, exit } = container.status
      if (verdict === 'watch' && process) void this.#exits.watch(container, process)
      else if (verdict === 'rollback') await this.#rollback(container, 'the daemon ended while it was being created')
      else if (verdict === 'remove') await this.#remove(container)
      else if (exit && !hadEnded) this.#emit('STOPPED', container, exit.atNs)
      return verdict
    } catch (error) {
      container.quarantine(`it cannot be recovered: ${errorMessage(error)}`)
      this.#owed.add(container.id)
      return 'leave'
    }
  }

  #emit(type: LifecycleEvent['type'], { metadata }: Container, atNs = nowNs()): void {
    this.#deps.onEvent({ type, containerId: metadata.id, sandboxId: metadata.sandboxId, atNs })
  }
}

/** Waits for all, then throws what the first that failed threw. */
async function settleAll(works: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(works)
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}
