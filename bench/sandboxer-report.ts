import type { Verdict } from './report.ts'
import type { SandboxerResults, WholePodTimes } from './sandboxer.ts'
import { fixed, median, summary, table } from './stats.ts'

const CALLS: readonly (readonly [string, keyof WholePodTimes])[] = [
  ['RunPodSandbox', 'run'],
  ['CreateContainer', 'create'],
  ['StartContainer', 'start'],
  ['pod + container', 'up'],
  ['ExecSync of true', 'exec'],
  ['stop and remove both', 'down'],
]

export function sandboxerTables({ comparisons, silent }: SandboxerResults): string {
  const pods = comparisons.map(({ what, times, rates }) => {
    const rows = [...times].flatMap(([subject, of]) =>
      CALLS.map(([call, key]) => {
        const { count, p50, p95, max } = summary(of[key])
        return [`${subject}: ${call}`, String(count), fixed(p50), fixed(p95), fixed(max)]
      }),
    )
    const rateRows = [...rates].map(([subject, rate]) => [`${subject}, 8 at a time`, fixed(rate)])
    return `${what}, bridge, 1 at a time (ms)\n${table(['', 'pods', 'p50', 'p95', 'max'], rows)}\n\n${table(['whole pods with a container', 'pods/s'], rateRows)}`
  })
  const rows = [...silent.answering].flatMap(([call, before]) => {
    const after = silent.silent.get(call)
    const row = (name: string, of = before): string[] => [
      `${call}, the sandboxer ${name}`,
      String(of.count),
      fixed(of.p50),
      fixed(of.p99),
      fixed(of.max),
    ]
    return [row('answers'), ...(after ? [row('is silent', after)] : [])]
  })
  return [
    ...pods,
    `calls while the sandboxer of 8 other pods answers, and does not (ms)\n${table(['', 'calls', 'p50', 'p99', 'max'], rows)}`,
  ].join('\n\n')
}

/** What was promised of the sandboxer API. */
export function sandboxerVerdicts({ comparisons, silent }: SandboxerResults): Verdict[] {
  const list: Verdict[] = []
  for (const { what, target, times, rates } of comparisons) {
    const [base, own] = [...times.keys()]
    if (base === undefined || own === undefined) continue
    const p50 = (subject: string, key: keyof WholePodTimes): number => median(times.get(subject)?.[key] ?? [])
    const ratio = (key: keyof WholePodTimes): number => p50(own, key) / p50(base, key)
    const add = (part: string, value: number, limit = Number.NaN): void => {
      list.push({ what: `${what}: ${part}, ${own} / ${base}`, value, target: limit })
    }
    add('pod + container', ratio('up'), target)
    add('RunPodSandbox', ratio('run'))
    add('Create + Start', (p50(own, 'create') + p50(own, 'start')) / (p50(base, 'create') + p50(base, 'start')))
    add('ExecSync', ratio('exec'))
    add('stop and remove both', ratio('down'))
    add('from nothing to nothing', ratio('whole'), target)
    add('time of a cycle, 8 at a time', (rates.get(base) ?? 0) / (rates.get(own) ?? 0))
  }
  for (const [call, { p99 }] of silent.answering) {
    const silentP99 = silent.silent.get(call)?.p99 ?? Number.NaN
    // A pod of its own is asked of the sandboxer while that answers, and of the record when it does not.
    const isOther = !call.includes('held')
    list.push({ what: `silent sandboxer: p99 of ${call}`, value: silentP99 / p99, target: isOther ? 1.2 : Number.NaN })
  }
  return list
}
