import { constants, monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { Counter, Gauge, Histogram, type Registry } from './prom-client.ts'

/** How often the event loop is looked at. */
const RESOLUTION_MS = 50
/** What is told of the event loop is of this time at least, however many ask. */
const WINDOW_MS = 10_000
const GC_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]
const GC_KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weak_callbacks',
}

/** What the kernel counts of this process. */
export interface OwnUsage {
  readonly openFds: number
  readonly maxFds: number
  readonly threads: number
}

interface GcEntry extends PerformanceEntry {
  readonly detail?: { readonly kind?: number }
}

export interface ProcessMetricsDeps {
  readonly readUsage: () => Promise<OwnUsage>
}

/** What the process of the daemon uses, and how long its event loop makes others wait. */
export class ProcessMetrics implements Disposable {
  readonly #delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  readonly #collections: PerformanceObserver
  #windowBeganMs = performance.now()

  constructor(registry: Registry, deps: ProcessMetricsDeps) {
    const registers = [registry]
    this.#addEventLoop(registers)
    this.#collections = observeGc(registers)
    addCpuAndMemory(registers)
    addCounts(registers, deps)
    this.#delays.enable()
  }

  [Symbol.dispose](): void {
    this.#delays.disable()
    this.#collections.disconnect()
  }

  #addEventLoop(registers: Registry[]): void {
    const delays = this.#delays
    const nextWindow = (): void => {
      if (performance.now() - this.#windowBeganMs < WINDOW_MS) return
      this.#windowBeganMs = performance.now()
      delays.reset()
    }
    new Gauge({
      name: 'sandboxerd_event_loop_delay_seconds',
      help: 'How long what was due had to wait for the event loop, since about the last time this was asked for.',
      labelNames: ['stat'],
      registers,
      collect() {
        // What is recorded is the time from one look to the next.
        const seconds = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1000)
        this.set({ stat: 'p50' }, seconds(delays.percentile(50)))
        this.set({ stat: 'p99' }, seconds(delays.percentile(99)))
        this.set({ stat: 'max' }, seconds(delays.count === 0 ? 0 : delays.max))
        nextWindow()
      },
    })
  }
}

function observeGc(registers: Registry[]): PerformanceObserver {
  const pauses = new Histogram({
    name: 'sandboxerd_gc_duration_seconds',
    help: 'Pauses of the main thread for garbage collection.',
    labelNames: ['kind'],
    buckets: GC_BUCKETS,
    registers,
  })
  const observer = new PerformanceObserver((list) => {
    for (const { duration, detail } of list.getEntries() as GcEntry[]) {
      pauses.observe({ kind: GC_KINDS[detail?.kind ?? 0] ?? 'other' }, duration / 1000)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  return observer
}

function addCpuAndMemory(registers: Registry[]): void {
  new Counter({
    name: 'sandboxerd_process_cpu_seconds_total',
    help: 'CPU time of the daemon, all threads.',
    labelNames: ['mode'],
    registers,
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc({ mode: 'user' }, user / 1e6)
      this.inc({ mode: 'system' }, system / 1e6)
    },
  })
  new Gauge({
    name: 'sandboxerd_process_resident_memory_bytes',
    help: 'Resident memory of the daemon.',
    registers,
    collect() {
      this.set(process.memoryUsage.rss())
    },
  })
  new Gauge({
    name: 'sandboxerd_process_heap_bytes',
    help: 'JavaScript heap of the main thread that is in use.',
    registers,
    collect() {
      this.set(process.memoryUsage().heapUsed)
    },
  })
  new Gauge({
    name: 'sandboxerd_process_start_time_seconds',
    help: 'When the daemon was started, since the epoch.',
    registers,
    collect() {
      this.set(performance.timeOrigin / 1000)
    },
  })
}

function addCounts(registers: Registry[], { readUsage }: ProcessMetricsDeps): void {
  const counts: readonly (readonly [name: string, help: string, value: (usage: OwnUsage) => number])[] = [
    ['sandboxerd_process_open_fds', 'File descriptors that the daemon has open.', ({ openFds }) => openFds],
    ['sandboxerd_process_max_fds', 'How many file descriptors the daemon may have open.', ({ maxFds }) => maxFds],
    ['sandboxerd_process_threads', 'Threads of the daemon.', ({ threads }) => threads],
  ]
  // All are asked for at once, and answered with one reading.
  let reading: Promise<OwnUsage | undefined> | undefined
  const read = async (): Promise<OwnUsage | undefined> => {
    // It fails when there is no descriptor left: then all else must be told all the more.
    reading ??= readUsage()
      .catch(() => undefined)
      .finally(() => (reading = undefined))
    return reading
  }
  for (const [name, help, value] of counts) {
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        const usage = await read()
        if (usage) this.set(value(usage))
      },
    })
  }
}
