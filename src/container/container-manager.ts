import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { waitFor } from '../core/deadline.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import type { ProcessStreams, StreamedExecRequest, StreamsWanted } from '../executor/types.ts'
import type { ProcessCheckpoints } from '../executor/process-checkpoints.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import type { Releaser } from '../lifecycle/release.ts'
import type { Checkpoints } from './checkpoint/checkpoints.ts'
import type { Container } from './container.ts'
import { isListed } from './container-index.ts'
import { containerInfo } from './container-info.ts'
import type { CheckpointedState, CreateDeps } from './create.ts'
import { Creations, type CreationsOptions } from './creations.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { ContainerLife } from './life.ts'
import { type CheckpointWork, LiveOperations } from './live-operations.ts'
import type { LoadedContainer } from './load.ts'
import type { Orphans } from './orphans.ts'
import type { Pod, Pods } from './pods.ts'
import { ProcessRestores } from './checkpoint/process-restores.ts'
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
  readonly #life: ContainerLife
  readonly #creations: Creations
  readonly #live: LiveOperations
  /** Sandboxes that are being stopped, or were: no container comes to them any more. */
  readonly #closedPods = new Set<string>()

  constructor(options: ManagerOptions, deps: ManagerDeps) {
    this.#options = options
    this.#deps = deps
    const { create, logger } = deps
    const { executor, bundles, failpoints } = create
    const life = new ContainerLife(options, {
      ...deps,
      ...create,
      interrupt: (container) => this.#live.interrupt(container),
    })
    this.#life = life
    this.#creations = new Creations(options, {
      ...create,
      index: life.index,
      logger,
      onProcess: (container, process) => life.watch(container, process),
      onCreated: (container) => life.emit('CREATED', container, container.metadata.createdAtNs),
      rollback: (container, why) => life.rollback(container, why),
      remove: (container) => life.remove(container),
    })
    this.#live = new LiveOperations(
      { timeoutMs: options.createTimeoutMs, checkpointMs: options.checkpointMs },
      {
        ...deps,
        executor,
        bundles,
        failpoints,
        restores: new ProcessRestores(options, { ...deps, executor }),
        uncertain: (container) => life.recoverLater(container),
      },
    )
  }

  /** Takes up the containers that are on record; what became of them is found out by {@link recover}. */
  async restore(loaded: readonly LoadedContainer[]): Promise<void> {
    for (const { record } of loaded) this.#creations.noteCreatedAt(record.metadata.createdAtNs)
    await this.#life.restore(loaded)
  }

  /** Finds out how the restored containers are. One that cannot be found out about delays no other. */
  async recover(): Promise<void> {
    await this.#life.recover()
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
      this.#life.started(container, await this.#live.start(container))
    }
    await waitFor(this.#life.operations.run(container.id, 'start', start), signal)
  }

  async stop(id: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const container = this.#visible(id)
    if (container) await waitFor(this.#life.stop(container, timeoutMs), signal)
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    const container = this.#visible(id)
    if (container) await waitFor(this.#life.remove(container), signal)
  }

  get(id: string): ContainerView {
    return this.#listed(id).view
  }

  async info(id: string, signal: AbortSignal): Promise<ContainerInfo> {
    return waitFor(containerInfo(this.#listed(id), this.#options.roots), signal)
  }

  list(filter: ContainerFilter): ContainerView[] {
    return this.#life.index.list(filter).map(({ view }) => view)
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
    await this.#closePod(sandboxId, (container) => this.#life.end(container))
  }

  /** Removes all containers of a sandbox. What of them cannot be released yet is owed, and keeps the sandbox on record. */
  async removePod(sandboxId: string): Promise<void> {
    await this.#closePod(sandboxId, (container) => this.#life.remove(container))
  }

  /** The sandbox is gone. */
  forgetPod(sandboxId: string): void {
    this.#closedPods.delete(sandboxId)
  }

  /** The ids of the containers that use an image. */
  usersOf(imageId: string): string[] {
    return this.#life.index
      .all()
      .filter(({ metadata }) => metadata.imageId === imageId || metadata.mountedImageIds.includes(imageId))
      .map(({ id }) => id)
  }

  /** How many owe the release of something. */
  get owed(): number {
    return this.#life.owed
  }

  /** Goes on now with what a container owes, instead of at its next turn. Outside of operations; throws nothing. */
  async retryOwed(id: string): Promise<void> {
    await this.#life.retryOwed(id)
  }

  /** All containers, also those that the CRI does not show. */
  all(): readonly Container[] {
    return this.#life.index.all()
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
    for (const { status } of this.#life.index.all()) containers[status.state] = (containers[status.state] ?? 0) + 1
    return { containers, containersCreating: this.#creations.size, containersOwed: this.#life.owed }
  }

  /** Runs work on an id, whether or not there is such a container, when no operation on it is under way. */
  async alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#life.operations.run(id, `examine ${randomBytes(8).toString('hex')}`, work)
  }

  /**
   * Finds out about one anew, as after a restart: what was written of it has been changed. Outside of operations.
   * @returns why it is not to be trusted, or `''`.
   */
  async examine(container: Container): Promise<string> {
    return this.#life.examine(container)
  }

  /** Waits for what is under way, then stops watching. Touches no container. */
  async drain(signal: AbortSignal): Promise<void> {
    await waitFor(Promise.all([this.#creations.settled(), this.#life.operations.idle()]), signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#life[Symbol.asyncDispose]()
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
    const visible = this.#life.index.ofSandbox(sandboxId).filter(({ status }) => status.visible)
    await settleAll([...visible.map(end), this.#creations.settled(sandboxId)])
    // What was made all the same, or could not be taken back whole.
    await settleAll(this.#life.index.ofSandbox(sandboxId).map(end))
  }

  /** A container that is being made, or taken back, belongs to its creation: nobody else has been told of it. */
  #visible(id: string): Container | undefined {
    const container = this.#life.index.find(id)
    return container?.status.visible ? container : undefined
  }

  #listed(id: string): Container {
    const container = this.#life.index.find(id)
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
    return this.#life.operations.run(container.id, `${kind} ${randomBytes(8).toString('hex')}`, work)
  }
}

/** Waits for all, then throws what the first that failed threw. */
async function settleAll(works: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(works)
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}
