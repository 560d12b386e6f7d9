import type { ContainerResults, ContainerTimes } from './containers.ts'
import type { Verdict } from './report.ts'
import { fixed, median, summary, table } from './stats.ts'

const CALLS: readonly (readonly [string, keyof ContainerTimes])[] = [
  ['CreateContainer', 'create'],
  ['StartContainer', 'start'],
  ['Create + Start', 'up'],
  ['ExecSync of true', 'exec'],
  ['StopContainer', 'stop'],
  ['RemoveContainer', 'remove'],
  ['Stop + Remove', 'down'],
]

export function containerTables({ times, cycles, memory }: ContainerResults): string {
  const rows = [...times].flatMap(([subject, of]) =>
    CALLS.map(([call, key]) => {
      const { count, p50, p95, max } = summary(of[key])
      return [`${subject} ${call}`, String(count), fixed(p50), fixed(p95), fixed(max)]
    }),
  )
  const cycleRows = cycles.map(({ subject, hostNetwork, concurrency, perSecond }) => [
    `${subject}, ${hostNetwork ? 'host' : 'bridge'}`,
    String(concurrency),
    fixed(perSecond),
  ])
  const memoryRows = memory.map(({ subject, podKib }) => [subject, fixed(podKib / 1024)])
  return [
    `containers, bridge, 1 at a time (ms)\n${table(['', 'containers', 'p50', 'p95', 'max'], rows)}`,
    `whole pods with a container\n${table(['', 'at a time', 'pods/s'], cycleRows)}`,
    `memory of a pod with a container (MiB)\n${table(['', 'PSS'], memoryRows)}`,
  ].join('\n\n')
}

/** What was promised of containers. */
export function containerVerdicts({ times, cycles, memory }: ContainerResults): Verdict[] {
  const list: Verdict[] = []
  const add = (what: string, value: number, target: number): void => {
    if (!Number.isNaN(value)) list.push({ what: `containers: ${what}`, value, target })
  }
  const p50 = (subject: string, key: keyof ContainerTimes): number => median(times.get(subject)?.[key] ?? [])
  const pss = (of: string): number => memory.find(({ subject }) => subject === of)?.podKib ?? Number.NaN
  const rate = (of: string, host: boolean): number =>
    cycles.find(({ subject, hostNetwork }) => subject === of && hostNetwork === host)?.perSecond ?? Number.NaN
  for (const own of ['shim', 'pinned']) {
    add(`Create + Start ${own} / floor`, p50(own, 'up') / p50('floor', 'up'), Number.NaN)
    add(`Create + Start ${own} / containerd`, p50(own, 'up') / p50('containerd', 'up'), 0.6)
    add(`ExecSync ${own} / floor`, p50(own, 'exec') / p50('floor', 'exec'), Number.NaN)
    add(`ExecSync ${own} / containerd`, p50(own, 'exec') / p50('containerd', 'exec'), 0.7)
    add(`Stop + Remove ${own} / floor`, p50(own, 'down') / p50('floor', 'down'), Number.NaN)
    add(`Stop + Remove ${own} / containerd`, p50(own, 'down') / p50('containerd', 'down'), 0.8)
    for (const host of [false, true]) {
      // Of pods per second more is better; a verdict is about at most.
      add(
        `time of a cycle ${own} / containerd, ${host ? 'host' : 'bridge'}`,
        rate('containerd', host) / rate(own, host),
        0.5,
      )
    }
    add(`memory of a pod ${own} / containerd`, pss(own) / pss('containerd'), 0.25)
  }
  return list
}
