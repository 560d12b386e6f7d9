import { ActivityMetrics } from './activity-metrics.ts'
import { type MetricSources, NodeMetrics } from './node-metrics.ts'
import { ProcessMetrics, type ProcessMetricsDeps } from './process-metrics.ts'
import { Gauge, Registry } from './prom-client.ts'

/** What is on record of a metric, for its documentation. */
export interface MetricDescription {
  readonly name: string
  readonly type: string
  readonly labels: readonly string[]
  readonly help: string
}

/** The metrics of the daemon, as Prometheus takes them. Their labels never hold ids. */
export class Metrics implements Disposable {
  /** The content type of {@link text}. */
  readonly contentType: string
  /** To be told of all that takes time. */
  readonly activities: ActivityMetrics
  readonly #registry = new Registry()
  readonly #node: NodeMetrics
  readonly #process: ProcessMetrics
  #text: Promise<string> | undefined

  constructor(options: { readonly version: string }, deps: ProcessMetricsDeps) {
    const registry = this.#registry
    this.contentType = registry.contentType
    this.activities = new ActivityMetrics(registry)
    this.#node = new NodeMetrics(registry)
    this.#process = new ProcessMetrics(registry, deps)
    const build = new Gauge({
      name: 'sandboxerd_build_info',
      help: 'Always 1; what it is that runs is in the labels.',
      labelNames: ['version', 'node_version'],
      registers: [registry],
    })
    build.set({ version: options.version, node_version: process.versions.node }, 1)
  }

  /** Says what the node is known by. */
  watch(sources: MetricSources): void {
    this.#node.watch(sources)
  }

  /** All metrics of this moment. Those who ask at the same time get the same. */
  async text(): Promise<string> {
    this.#text ??= this.#registry.metrics().finally(() => (this.#text = undefined))
    return this.#text
  }

  describe(): MetricDescription[] {
    return this.#registry.getMetricsAsArray().map((metric) => {
      const { name, help, type, labelNames } = metric as unknown as Declared
      return { name, type, labels: labelNames, help }
    })
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]()
  }
}

/** What a metric knows of itself; its type does not tell. */
interface Declared {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly labelNames: readonly string[]
}
