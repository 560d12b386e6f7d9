import type { FloorPart } from './floor.ts'
import type { Times } from './load.ts'
import type { Memory } from './memory.ts'
import type { NetworkMode } from './options.ts'
import type { Reads } from './reads.ts'
import type { Recovery } from './recovery.ts'
import { fixed, median, summary, table } from './stats.ts'

/** All times of one network at one concurrency. */
export interface LoadResult {
  readonly network: NetworkMode
  readonly concurrency: number
  readonly times: ReadonlyMap<string, Times>
  readonly floorParts: ReadonlyMap<FloorPart, readonly number[]>
}

const CALLS = [
  ['RunPodSandbox', 'run'],
  ['StopPodSandbox', 'stop'],
  ['RemovePodSandbox', 'remove'],
  ['Stop + Remove', 'down'],
] as const

/** A ratio or a duration with what it ought to be at most. */
export interface Verdict {
  readonly what: string
  readonly value: number
  readonly target: number
}

export function loadTable({ network, concurrency, times }: LoadResult): string {
  const rows = [...times].flatMap(([subject, of]) =>
    CALLS.map(([call, key]) => {
      const { count, p50, p95, max } = summary(of[key])
      const rate = key === 'run' ? fixed((1000 * count) / of.batch.reduce((sum, ms) => sum + ms, 0)) : ''
      return [`${subject} ${call}`, String(count), fixed(p50), fixed(p95), fixed(max), rate]
    }),
  )
  return `${network}, ${concurrency} at a time (ms)\n${table(['', 'pods', 'p50', 'p95', 'max', 'pods/s'], rows)}`
}

/** Where the time goes: the parts of the floor, and the steps of RunPodSandbox, as medians. */
export function partsTable({ network, times, floorParts }: LoadResult): string {
  const parts = [...floorParts].map(([part, ms]) => [`floor: ${part}`, '', fixed(median(ms))])
  const steps = [...times].flatMap(([subject, of]) =>
    [...of.steps].map(([step, { startMs, durationMs }]) => [
      `${subject}: ${step}`,
      fixed(median(startMs)),
      fixed(median(durationMs)),
    ]),
  )
  return `${network}, 1 at a time, medians (ms)\n${table(['', 'at', 'takes'], [...parts, ...steps])}`
}

/** What was promised, from the loads at concurrency 1. */
export function verdicts(loads: readonly LoadResult[]): Verdict[] {
  return loads.filter(({ concurrency }) => concurrency === 1).flatMap(verdictsOf)
}

function verdictsOf({ network, times, floorParts }: LoadResult): Verdict[] {
  const p50 = (subject: string, key: 'run' | 'down'): number => median(times.get(subject)?.[key] ?? [])
  const part = (name: FloorPart): number => median(floorParts.get(name) ?? [0])
  const list: Verdict[] = []
  const add = (what: string, value: number, target: number): void => {
    if (!Number.isNaN(value)) list.push({ what: `${network}: ${what}`, value, target })
  }
  add('RunPodSandbox shim / floor', p50('shim', 'run') / p50('floor', 'run'), 1.1)
  add('RunPodSandbox shim / containerd', p50('shim', 'run') / p50('containerd', 'run'), 0.5)
  if (network === 'host') add('RunPodSandbox pinned, ms', p50('pinned', 'run'), 5)
  else {
    const up = part('ip netns add') + part('CNI ADD')
    const down = part('CNI DEL') + part('ip netns del')
    add('RunPodSandbox pinned / floor without runtime', p50('pinned', 'run') / up, 1.15)
    add('Stop + Remove pinned / floor without runtime', p50('pinned', 'down') / down, 1.1)
  }
  add('Stop + Remove shim / floor', p50('shim', 'down') / p50('floor', 'down'), 1.1)
  add('Stop + Remove shim / containerd', p50('shim', 'down') / p50('containerd', 'down'), Number.NaN)
  return list
}

export function readVerdicts(reads: Reads): Verdict[] {
  return [...reads.calls].map(([call, { p99 }]) => ({
    what: `${reads.server}: ${call} p99 during load, ms`,
    value: p99,
    target: 20,
  }))
}

export function verdictTable(list: readonly Verdict[]): string {
  const rows = list.map(({ what, value, target }) => [
    what,
    fixed(value),
    Number.isNaN(target) ? '' : `<= ${target}`,
    Number.isNaN(target) ? '' : value <= target ? 'ok' : 'MISSED',
  ])
  return `promises (p50, 1 at a time)\n${table(['', 'is', 'target', ''], rows)}`
}

export function memoryTable(list: readonly Memory[]): string {
  const mib = (kib: number | null): string => (kib === null ? '-' : fixed(kib / 1024))
  const rows = list.map(({ subject, pods, podKib, processesPerPod, daemonRssKib }) => [
    subject,
    String(pods),
    fixed(podKib / 1024),
    fixed(processesPerPod),
    mib(daemonRssKib),
  ])
  return `memory (MiB)\n${table(['', 'pods', 'PSS per pod', 'processes per pod', 'daemon RSS'], rows)}`
}

export function readsTable(reads: Reads): string {
  const rows = [...reads.calls].map(([call, { count, p50, p99, max }]) => [
    call,
    String(count),
    fixed(p50),
    fixed(p99),
    fixed(max),
  ])
  const { p50, p99, max } = reads.driverDelay
  rows.push(['(delay of the driver itself)', '', fixed(p50), fixed(p99), fixed(max)])
  const hung = reads.stopHung ? 'one StopPodSandbox hangs' : 'one StopPodSandbox hung, but not all the time'
  return `${reads.server}: reads while 32 pods are being created and ${hung} (ms)\n${table(['', 'calls', 'p50', 'p99', 'max'], rows)}`
}

export function recoveryTable(list: readonly Recovery[]): string {
  const keys = [...new Set(list.map(({ server, pods }) => `${server}, ${pods} pods`))]
  const rows = keys.map((key) => {
    const of = list.filter(({ server, pods }) => key === `${server}, ${pods} pods`)
    const middle = (value: (recovery: Recovery) => number): string => fixed(median(of.map(value)))
    return [
      key,
      String(of.length),
      middle(({ firstAnswerMs }) => firstAnswerMs),
      middle(({ allReadyMs }) => allReadyMs),
      middle(({ daemonRssKib }) => daemonRssKib / 1024),
    ]
  })
  const head = ['', 'kills', 'first answer', 'all READY', 'daemon RSS, MiB']
  return `from kill -9, the daemon being started again at once, medians (ms)\n${table(head, rows)}`
}
