import { Counter, Gauge, type Registry } from './prom-client.ts'

/** How a remote sandboxer answered lately. */
export interface SandboxerHealth {
  readonly name: string
  readonly reachable: boolean
  /** Of its answer; null when there was none. */
  readonly latencyMs: number | null
}

/** Sandboxes, or containers. */
export interface OwnersCounts {
  /** By state, those with none included. */
  readonly states: Readonly<Record<string, number>>
  readonly quarantined: number
  /** How many owe the release of something. */
  readonly owed: number
}

/** What the daemon knows of the node. Each is asked when metrics are. */
export interface MetricSources {
  readonly sandboxes: () => OwnersCounts
  readonly containers: () => OwnersCounts
  readonly ledger: () => Iterable<{ readonly kind: string; readonly state: string }>
  readonly warmShims: () => number
  readonly streamingSessions: () => number
  readonly networkReady: () => boolean
  readonly runtimeReady: () => boolean
  /** Whether everything that was on record at the start has been looked at. */
  readonly recovered: () => boolean
  /** Remote sandboxers. It throws nothing, and waits for none of them for long. */
  readonly sandboxers: () => Promise<readonly SandboxerHealth[]>
  /** How many signs of life the watchdog of the service manager was given. */
  readonly watchdogPings: () => number
}

interface Family {
  readonly name: string
  readonly help: string
  readonly labelNames: string[]
  /** Sets all values anew. */
  readonly collect: (sources: MetricSources, set: (labels: Record<string, string>, value: number) => void) => void
}

const SUBJECTS = ['sandbox', 'container'] as const

function ofSubject(sources: MetricSources, subject: (typeof SUBJECTS)[number]): OwnersCounts {
  return subject === 'sandbox' ? sources.sandboxes() : sources.containers()
}

function bySubject(value: (counts: OwnersCounts) => number): Family['collect'] {
  return (sources, set) => {
    for (const subject of SUBJECTS) set({ subject }, value(ofSubject(sources, subject)))
  }
}

function byState(subject: (typeof SUBJECTS)[number]): Family['collect'] {
  return (sources, set) => {
    for (const [state, count] of Object.entries(ofSubject(sources, subject).states)) set({ state }, count)
  }
}

function single(value: (sources: MetricSources) => number | boolean): Family['collect'] {
  return (sources, set) => set({}, Number(value(sources)))
}

const GAUGES: readonly Family[] = [
  {
    name: 'sandboxerd_sandboxes',
    help: 'Sandboxes by their state, those served to other front ends included.',
    labelNames: ['state'],
    collect: byState('sandbox'),
  },
  {
    name: 'sandboxerd_containers',
    help: 'Containers by their state.',
    labelNames: ['state'],
    collect: byState('container'),
  },
  {
    name: 'sandboxerd_quarantined',
    help: 'Sandboxes and containers whose records do not verify, or that cannot be observed.',
    labelNames: ['subject'],
    collect: bySubject(({ quarantined }) => quarantined),
  },
  {
    name: 'sandboxerd_owed_releases',
    help: 'Sandboxes and containers of which something could not be released yet; it is tried again.',
    labelNames: ['subject'],
    collect: bySubject(({ owed }) => owed),
  },
  {
    name: 'sandboxerd_ledger_entries',
    help: 'Resources in the ledger, by kind and state (intended, held, releasing).',
    labelNames: ['kind', 'state'],
    collect: countLedger,
  },
  {
    name: 'sandboxerd_warm_shims',
    help: 'Shims that are ready, and have no sandbox yet.',
    labelNames: [],
    collect: single(({ warmShims }) => warmShims()),
  },
  {
    name: 'sandboxerd_streaming_sessions',
    help: 'Sessions of exec, attach and port-forward.',
    labelNames: [],
    collect: single(({ streamingSessions }) => streamingSessions()),
  },
  {
    name: 'sandboxerd_network_ready',
    help: '1 when pods can get a network (CNI), as the CRI is told.',
    labelNames: [],
    collect: single(({ networkReady }) => networkReady()),
  },
  {
    name: 'sandboxerd_runtime_ready',
    help: '1 when the programs of the default runtime handler can be run, as the CRI is told.',
    labelNames: [],
    collect: single(({ runtimeReady }) => runtimeReady()),
  },
  {
    name: 'sandboxerd_recovered',
    help: '1 when everything that was on record at the start has been looked at.',
    labelNames: [],
    collect: single(({ recovered }) => recovered()),
  },
]

/** Sizes and states of what the daemon looks after. */
export class NodeMetrics {
  #sources: MetricSources | undefined

  constructor(registry: Registry) {
    const registers = [registry]
    for (const family of GAUGES) this.#addGauge(family, registers)
    this.#addSandboxers(registers)
    const sources = (): MetricSources | undefined => this.#sources
    new Counter({
      name: 'sandboxerd_watchdog_pings_total',
      help: 'Signs of life that were given to the watchdog of the service manager.',
      registers,
      collect() {
        this.reset()
        this.inc(sources()?.watchdogPings() ?? 0)
      },
    })
  }

  /** Says where the values come from; before that there are none. */
  watch(sources: MetricSources): void {
    this.#sources = sources
  }

  #addGauge({ name, help, labelNames, collect }: Family, registers: Registry[]): void {
    const sources = (): MetricSources | undefined => this.#sources
    const gauge = new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        const known = sources()
        this.reset()
        if (known) collect(known, (labels, value) => gauge.set(labels, value))
      },
    })
  }

  #addSandboxers(registers: Registry[]): void {
    const sources = (): MetricSources | undefined => this.#sources
    new Gauge({
      name: 'sandboxerd_sandboxer_up',
      help: '1 when a remote sandboxer answers, whatever it says.',
      labelNames: ['sandboxer'],
      registers,
      async collect() {
        const known = (await sources()?.sandboxers()) ?? []
        for (const { name, reachable } of known) this.set({ sandboxer: name }, Number(reachable))
      },
    })
    new Gauge({
      name: 'sandboxerd_sandboxer_latency_seconds',
      help: 'How long a remote sandboxer took for its last answer to Platform.',
      labelNames: ['sandboxer'],
      registers,
      async collect() {
        const known = (await sources()?.sandboxers()) ?? []
        for (const { name, latencyMs } of known) {
          if (latencyMs === null) this.remove({ sandboxer: name })
          else this.set({ sandboxer: name }, latencyMs / 1000)
        }
      },
    })
  }
}

function countLedger(sources: MetricSources, set: (labels: Record<string, string>, value: number) => void): void {
  const counts = new Map<string, Map<string, number>>()
  for (const { kind, state } of sources.ledger()) {
    const states =
      counts.get(kind) ??
      new Map<string, number>([
        ['intended', 0],
        ['held', 0],
        ['releasing', 0],
      ])
    counts.set(kind, states.set(state, (states.get(state) ?? 0) + 1))
  }
  for (const [kind, states] of counts) for (const [state, count] of states) set({ kind, state }, count)
}
