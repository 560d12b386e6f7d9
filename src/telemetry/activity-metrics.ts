import { errorCode } from '../core/errors.ts'
import type { Activity, ActivityKind, Observer, Outcome } from '../core/observer.ts'
import { Gauge, Histogram, type Registry } from './prom-client.ts'

/** From when on an operation counts as stalled. */
const STALLED_MS = 30_000

/** Of calls and steps, in seconds. */
const FAST = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** Of commits, each of which is an fsync. */
const DISK = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]
/** Of image pulls. */
const SLOW = [0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200]

interface Measured {
  readonly name: string
  readonly help: string
  readonly buckets: number[]
  readonly labels: readonly string[]
}

const MEASURED: Readonly<Record<ActivityKind, Measured>> = {
  rpc: {
    name: 'sandboxerd_rpc_duration_seconds',
    help: 'Calls of the CRI and of the sandboxer API, from their arrival to their answer.',
    buckets: FAST,
    labels: ['service', 'method'],
  },
  operation: {
    name: 'sandboxerd_operation_duration_seconds',
    help: 'Operations on sandboxes and containers, with the time that they wait for one another.',
    buckets: FAST,
    labels: ['operation'],
  },
  step: {
    name: 'sandboxerd_step_duration_seconds',
    help: 'Steps of RunPodSandbox (operation run) and CreateContainer (container-create), and releases (release).',
    buckets: FAST,
    labels: ['operation', 'step'],
  },
  cni: {
    name: 'sandboxerd_cni_plugin_duration_seconds',
    help: 'Runs of CNI plugins, by the command that they were given.',
    buckets: FAST,
    labels: ['plugin', 'command'],
  },
  runtime: {
    name: 'sandboxerd_runtime_call_duration_seconds',
    help: 'Commands of OCI runtimes, by the name of the program, and calls of Task services (runtime task).',
    buckets: FAST,
    labels: ['runtime', 'call'],
  },
  sandboxer: {
    name: 'sandboxerd_sandboxer_call_duration_seconds',
    help: 'Calls to remote sandboxers, but for Wait, which lasts as long as a sandbox.',
    buckets: FAST,
    labels: ['sandboxer', 'method'],
  },
  store: {
    name: 'sandboxerd_store_commit_duration_seconds',
    help: 'Writes to the database, until they are durable.',
    buckets: DISK,
    labels: [],
  },
  image: {
    name: 'sandboxerd_image_pull_duration_seconds',
    help: 'Image pulls; callers who want the same at the same time share one.',
    buckets: SLOW,
    labels: [],
  },
}

type Operation = Activity & { readonly kind: 'operation' }

/** The step of an operation that waits for another one on the same id. */
const QUEUE = 'queue'

/** An operation that is under way. */
export interface RunningOperation {
  /** The sandbox or container; `''` where there is none yet. */
  readonly id: string
  readonly name: string
  /** The steps it is at: `queue` when it waits for another one on the same id; none for one without named steps. */
  readonly steps: readonly string[]
  /** For how long. */
  readonly sinceMs: number
}

/** Measures how long activities take and how they end, and knows the operations that are under way. */
export class ActivityMetrics implements Observer {
  readonly #histograms: ReadonlyMap<ActivityKind, Histogram>
  /** Since when. */
  readonly #running = new Map<Operation, number>()
  /** The steps that are under way, by the id of their sandbox or container. */
  readonly #steps = new Map<string, string[]>()
  readonly #seen = new Set<string>()

  constructor(registry: Registry) {
    const registers = [registry]
    this.#histograms = new Map(
      (Object.entries(MEASURED) as [ActivityKind, Measured][]).map(([kind, { labels, ...rest }]) => [
        kind,
        new Histogram({ ...rest, labelNames: [...labels, 'code'], registers }),
      ]),
    )
    this.#addGauges(registers)
  }

  async run<T>(activity: Activity, work: () => Promise<T>): Promise<T> {
    const beginMs = performance.now()
    this.#begin(activity, beginMs)
    let outcome: Outcome = 'OK'
    try {
      return await work()
    } catch (error) {
      outcome = errorCode(error)
      throw error
    } finally {
      this.#end(activity)
      const seconds = (performance.now() - beginMs) / 1000
      this.#histograms.get(activity.kind)?.observe(labelsOf(activity, outcome), seconds)
    }
  }

  headers(): Readonly<Record<string, string>> {
    return {}
  }

  /** What is under way, the oldest first. */
  operations(): RunningOperation[] {
    const nowMs = performance.now()
    return [...this.#running].map(([{ id = '', name, waitsFor }, beginMs]) => {
      const steps = waitsFor?.() === undefined ? (this.#steps.get(id) ?? []) : [QUEUE]
      return { id, name, steps: [...new Set(steps)], sinceMs: nowMs - beginMs }
    })
  }

  #begin(activity: Activity, nowMs: number): void {
    if (activity.kind === 'operation') {
      this.#running.set(activity, nowMs)
      this.#seen.add(activity.name)
    } else if (activity.kind === 'step' && activity.id !== undefined) {
      const steps = this.#steps.get(activity.id)
      if (steps) steps.push(activity.name)
      else this.#steps.set(activity.id, [activity.name])
    }
  }

  #end(activity: Activity): void {
    if (activity.kind === 'operation') this.#running.delete(activity)
    if (activity.kind !== 'step' || activity.id === undefined) return
    const steps = this.#steps.get(activity.id) ?? []
    steps.splice(steps.indexOf(activity.name), 1)
    if (steps.length === 0) this.#steps.delete(activity.id)
  }

  #addGauges(registers: Registry[]): void {
    const operations = (): RunningOperation[] => this.operations()
    const seen = this.#seen
    new Gauge({
      name: 'sandboxerd_operations_in_flight',
      help: 'Operations on sandboxes and containers that are under way.',
      labelNames: ['operation'],
      registers,
      collect() {
        // One that was seen stays, at zero: a series that comes and goes is hard to read.
        for (const operation of seen) this.set({ operation }, 0)
        for (const { name } of operations()) this.inc({ operation: name })
      },
    })
    new Gauge({
      name: 'sandboxerd_operation_stalled_seconds',
      help: 'How long the oldest operation at a step has been under way, of those that take more than 30 s.',
      labelNames: ['operation', 'step'],
      registers,
      collect() {
        this.reset()
        // The oldest comes last, and stays.
        for (const { name, steps, sinceMs } of operations().toReversed()) {
          if (sinceMs < STALLED_MS) continue
          for (const step of steps.length > 0 ? steps : ['']) this.set({ operation: name, step }, sinceMs / 1000)
        }
      },
    })
  }
}

function labelsOf(activity: Activity, code: Outcome): Record<string, string> {
  switch (activity.kind) {
    case 'rpc':
      return { service: activity.service, method: activity.name, code }
    case 'operation':
      return { operation: activity.name, code }
    case 'step':
      return { operation: activity.operation, step: activity.name, code }
    case 'cni':
      return { plugin: activity.plugin, command: activity.name, code }
    case 'runtime':
      return { runtime: activity.runtime, call: activity.name, code }
    case 'sandboxer':
      return { sandboxer: activity.sandboxer, method: activity.name, code }
    case 'store':
    case 'image':
      return { code }
  }
}
