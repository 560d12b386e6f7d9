import type { Verdict } from './report.ts'
import { fixed, median, summary, table } from './stats.ts'
import { CARRIERS, type StreamingResults, WAYS } from './streaming.ts'

export function streamingTables({ mib, times }: StreamingResults): string {
  const execs = [...times].flatMap(([subject, { execSync, exec }]) =>
    [['ExecSync', execSync] as const, ...CARRIERS.map((carrier) => [carrier, exec[carrier]] as const)].map(
      ([how, of]) => {
        const { count, p50, p95, max } = summary(of)
        return [`${subject} ${how}`, String(count), fixed(p50), fixed(p95), fixed(max)]
      },
    ),
  )
  const bulk = [...times].flatMap(([subject, of]) =>
    CARRIERS.map((carrier) => [`${subject} ${carrier}`, ...WAYS.map((way) => fixed(median(of.bulk[carrier][way])))]),
  )
  return [
    `exec of true, bridge, 1 at a time (ms)\n${table(['', 'execs', 'p50', 'p95', 'max'], execs)}`,
    `${mib} MiB, 1 session at a time, medians (MiB/s)\n${table(['', ...WAYS], bulk)}`,
  ].join('\n\n')
}

/** What was promised of streaming. */
export function streamingVerdicts({ times }: StreamingResults): Verdict[] {
  const list: Verdict[] = []
  const add = (what: string, value: number, target: number): void => {
    if (!Number.isNaN(value)) list.push({ what: `streaming: ${what}`, value, target })
  }
  const peer = times.get('containerd')
  for (const name of ['shim', 'pinned']) {
    const own = times.get(name)
    if (!own) continue
    for (const carrier of CARRIERS) {
      add(`exec of true over ${carrier} / ExecSync, ${name}`, median(own.exec[carrier]) / median(own.execSync), 1.3)
      if (!peer) continue
      add(
        `exec of true over ${carrier}, ${name} / containerd`,
        median(own.exec[carrier]) / median(peer.exec[carrier]),
        Number.NaN,
      )
      for (const way of WAYS) {
        // Of MiB/s more is better; a verdict is about at most.
        add(
          `time of ${way} over ${carrier}, ${name} / containerd`,
          median(peer.bulk[carrier][way]) / median(own.bulk[carrier][way]),
          1,
        )
      }
    }
  }
  return list
}
