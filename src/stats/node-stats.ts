import type { Logger } from 'pino'
import { errorMessage } from '../core/errors.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import { Collector, type SandboxAnswer } from './collector.ts'
import { Memo } from './memo.ts'
import type { Reader } from './reader.ts'
import type { ToldReadings } from './told-readings.ts'
import { type Entry, Readings } from './readings.ts'
import { toSandboxSample } from './sandbox-sample.ts'
import { bySandbox, findTarget, isEmptyFilter, isMatch } from './targets.ts'
import type {
  ContainerSample,
  ContainerTarget,
  LayerFileSystem,
  MetricsSample,
  SandboxSample,
  SandboxTarget,
  Stats,
  StatsFilter,
  StatsSource,
} from './types.ts'
import { WritableLayers } from './writable-layers.ts'

export interface NodeStatsOptions {
  /** Nothing is read again before it is this old. */
  readonly minIntervalMs: number
  /** No writable layer is measured again before that is this old. */
  readonly writableLayerIntervalMs: number
  /** A directory on the file system of the writable layers. */
  readonly layersPath: string
}

export interface NodeStatsDeps {
  readonly source: StatsSource
  readonly reader: Reader
  readonly told: Pick<ToldReadings, 'of'>
  /** The text of `/proc/net/dev` in a pinned network namespace. */
  readonly readNetDev: (netnsPath: string) => Promise<string>
  readonly run: RunProgram
  readonly logger: Logger
}

const IDLE_MS = 60_000

/** {@link Stats} by reading cgroupfs and /proc. */
export class NodeStats implements Stats, AsyncDisposable {
  readonly #options: NodeStatsOptions
  readonly #deps: NodeStatsDeps
  readonly #layers: WritableLayers
  readonly #containers: Readings<ContainerTarget>
  readonly #sandboxes: Readings<SandboxTarget, SandboxAnswer>
  /** The same for metrics, with more to read. */
  readonly #detailed: Readings<ContainerTarget>
  readonly #networks: Readings<SandboxTarget, SandboxAnswer>
  #fileSystem: LayerFileSystem | null = null
  readonly #samples = {
    container: new Memo<ContainerSample>(),
    detailed: new Memo<ContainerSample>(),
    sandbox: new Memo<SandboxSample>(),
    metrics: new Memo<MetricsSample>(),
  }
  readonly #lists = new Memo<readonly unknown[]>()
  #idleTimer: NodeJS.Timeout | undefined

  constructor(options: NodeStatsOptions, deps: NodeStatsDeps) {
    this.#options = options
    this.#deps = deps
    this.#layers = new WritableLayers({ intervalMs: options.writableLayerIntervalMs }, deps)
    const collector = new Collector(deps)
    this.#containers = new Readings(options, {
      collect: async (targets) => await collector.containers(targets, { detail: false }),
    })
    this.#sandboxes = new Readings(options, {
      collect: async (targets) => await collector.sandboxes(targets, this.#sharedParents()),
    })
    this.#detailed = new Readings(options, {
      collect: async (targets) => {
        this.#fileSystem = await this.#readFileSystem()
        return await collector.containers(targets, { detail: true })
      },
    })
    this.#networks = new Readings(options, { collect: async (targets) => await collector.sandboxes(targets) })
  }

  async container(id: string, signal: AbortSignal): Promise<ContainerSample> {
    this.#keepForAWhile()
    const target = findTarget('container', this.#deps.source.containers(), id)
    const targets = [target]
    await Promise.all([
      target.running ? this.#containers.refresh(targets, signal) : undefined,
      this.#layers.refresh(targets, signal),
    ])
    return this.#containerSample(target)
  }

  async containers(filter: StatsFilter, signal: AbortSignal): Promise<readonly ContainerSample[]> {
    const targets = this.#running().filter((target) => isMatch(filter, target))
    await Promise.all([this.#containers.refresh(targets, signal), this.#layers.refresh(targets, signal)])
    const samples = targets.map((target) => this.#containerSample(target)).filter(({ cgroup }) => cgroup !== null)
    return isEmptyFilter(filter) ? this.#sameList('containers', samples) : samples
  }

  async sandbox(id: string, signal: AbortSignal): Promise<SandboxSample> {
    const target = findTarget('sandbox', this.#deps.source.sandboxes(), id)
    const containers = this.#running().filter(({ sandboxId }) => sandboxId === target.id)
    await this.#refreshPods(target.ready ? [target] : [], containers, signal)
    return this.#sandboxSample(target, containers)
  }

  async sandboxes(filter: Pick<StatsFilter, 'id' | 'labels'>, signal: AbortSignal): Promise<readonly SandboxSample[]> {
    const targets = this.#ready().filter((target) => isMatch(filter, target))
    const running = bySandbox(this.#running())
    const containersOf = ({ id }: SandboxTarget) => running.get(id) ?? []
    await this.#refreshPods(targets, targets.flatMap(containersOf), signal)
    const samples = targets.map((target) => this.#sandboxSample(target, containersOf(target)))
    return isEmptyFilter(filter) ? this.#sameList('sandboxes', samples) : samples
  }

  async metrics(signal: AbortSignal): Promise<readonly MetricsSample[]> {
    const targets = this.#ready()
    const containers = this.#running()
    await Promise.all([
      this.#networks.refresh(targets, signal),
      this.#detailed.refresh(containers, signal),
      this.#layers.refresh(containers, signal),
    ])
    const grouped = bySandbox(containers)
    const samples = targets.map((target) => this.#metricsSample(target, grouped.get(target.id) ?? []))
    return this.#sameList('metrics', samples)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idleTimer)
    await this.#layers[Symbol.asyncDispose]()
  }

  /** Answers are kept for the next who ask, not for hours in which nobody does. */
  #keepForAWhile(): void {
    this.#idleTimer ??= setTimeout(() => {
      const none: ReadonlySet<string> = new Set()
      for (const store of [this.#lists, this.#detailed, this.#networks, ...Object.values(this.#samples)])
        store.retain(none)
      this.#idleTimer = undefined
    }, IDLE_MS).unref()
    this.#idleTimer.refresh()
  }

  #running(): ContainerTarget[] {
    this.#keepForAWhile()
    const all = this.#deps.source.containers()
    this.#forgetGone(all, [
      this.#layers,
      this.#containers,
      this.#detailed,
      this.#samples.container,
      this.#samples.detailed,
    ])
    return all.filter(({ running }) => running)
  }

  #ready(): SandboxTarget[] {
    const all = this.#deps.source.sandboxes()
    this.#forgetGone(all, [this.#sandboxes, this.#networks, this.#samples.sandbox, this.#samples.metrics])
    return all.filter(({ ready }) => ready)
  }

  /** Only when there is more known than there is. */
  #forgetGone(
    all: readonly { readonly id: string }[],
    stores: readonly { readonly size: number; retain(ids: ReadonlySet<string>): void }[],
  ): void {
    const tooLarge = stores.filter(({ size }) => size > all.length)
    if (tooLarge.length === 0) return
    const ids = new Set(all.map(({ id }) => id))
    for (const store of tooLarge) store.retain(ids)
  }

  async #refreshPods(
    sandboxes: readonly SandboxTarget[],
    containers: readonly ContainerTarget[],
    signal: AbortSignal,
  ): Promise<void> {
    await Promise.all([
      this.#sandboxes.refresh(sandboxes, signal),
      this.#containers.refresh(containers, signal),
      this.#layers.refresh(containers, signal),
    ])
  }

  #sharedParents(): (cgroupParent: string) => boolean {
    const seen = new Set<string>()
    const shared = new Set<string>()
    for (const { cgroupParent, ready } of this.#deps.source.sandboxes()) {
      if (ready && seen.has(cgroupParent)) shared.add(cgroupParent)
      else if (ready) seen.add(cgroupParent)
    }
    return (parent) => shared.has(parent)
  }

  async #readFileSystem(): Promise<LayerFileSystem | null> {
    const path = this.#options.layersPath
    try {
      return await this.#deps.reader.fileSystem(path)
    } catch (error) {
      this.#deps.logger.warn({ path, error: errorMessage(error) }, 'the size of a file system could not be read')
      return null
    }
  }

  #containerSample(target: ContainerTarget): ContainerSample {
    const entry = target.running ? this.#containers.get(target.id) : undefined
    return this.#sample(this.#samples.container, target, entry)
  }

  #sample(memo: Memo<ContainerSample>, target: ContainerTarget, entry: Entry | undefined): ContainerSample {
    const writableLayer = this.#layers.usage(target.id)
    return memo.of(target.id, [entry, writableLayer], () => ({
      target,
      cgroup: entry?.answer.cgroup ?? null,
      usageNanoCores: entry?.usageNanoCores ?? null,
      writableLayer,
    }))
  }

  #sandboxSample(target: SandboxTarget, targets: readonly ContainerTarget[]): SandboxSample {
    const entry = target.ready ? this.#sandboxes.get(target.id) : undefined
    const containers = targets.map((one) => this.#containerSample(one)).filter(({ cgroup }) => cgroup !== null)
    return this.#samples.sandbox.of(target.id, [entry, ...containers], () => toSandboxSample(target, entry, containers))
  }

  #metricsSample(target: SandboxTarget, targets: readonly ContainerTarget[]): MetricsSample {
    const network = this.#networks.get(target.id)?.answer.network ?? null
    const containers = targets
      .map((one) => this.#sample(this.#samples.detailed, one, this.#detailed.get(one.id)))
      .filter(({ cgroup }) => cgroup !== null)
    const fileSystem = this.#fileSystem
    return this.#samples.metrics.of(target.id, [network, fileSystem, ...containers], () => ({
      target,
      network,
      containers,
      fileSystem,
    }))
  }

  #sameList<T>(name: string, samples: readonly T[]): readonly T[] {
    return this.#lists.of(name, samples, () => samples) as readonly T[]
  }
}
