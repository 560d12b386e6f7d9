import type { Output } from '../output.ts'
import { styled } from '../style.ts'
import type { BenchOptions, BenchResult } from './bench.ts'
import type { Summary } from './samples.ts'

const COLUMNS = [
  { title: 'CALL OR STEP' },
  { title: 'N', right: true },
  { title: 'P50 MS', right: true },
  { title: 'P99 MS', right: true },
  { title: 'MAX MS', right: true },
]

/** The call that has steps. */
const RUN = 'RunPodSandbox'

/** Says what was done, how long it took, and what of it is left. */
export function showBench(out: Output, options: BenchOptions, result: BenchResult): void {
  if (out.isJson) return out.json({ ...options, image: options.image ?? null, ...result })
  const { completed, failed, elapsedMs, errors, calls, steps, left } = result
  const seconds = elapsedMs / 1000
  const rate = seconds > 0 ? (completed / seconds).toFixed(1) : '0'
  out.line(
    `${completed} of ${options.pods} pods run, stopped and removed in ${seconds.toFixed(1)} s (${rate} a second)`,
  )
  out.line(`${options.concurrency} at a time, ${described(options)}`)
  if (calls.length > 0) {
    out.line()
    const rows = calls.flatMap((call) => [
      row(call),
      ...(call.name === RUN ? steps.map((step) => row(step, '  ')) : []),
    ])
    out.table(COLUMNS, rows)
  }
  if (failed > 0)
    out.line(styled('red', `${failed} pods failed`), errors.length < failed ? ', the first ones with:' : ':')
  for (const error of errors) out.line(`  ${error}`)
  if (left.length > 0) out.line(styled('red', 'could not be removed'), ' (later: sandboxerctl bench --clean):')
  for (const problem of left) out.line(`  ${problem}`)
}

function described({ handler, hasNetwork, image }: BenchOptions): string {
  const network = hasNetwork ? 'with networks of their own' : 'in the network of the node'
  const container = image === undefined ? 'without containers' : `with a container of ${image} each`
  return `${handler === '' ? 'default handler' : `handler ${handler}`}, ${network}, ${container}`
}

function row({ name, count, p50Ms, p99Ms, maxMs }: Summary, indent = ''): readonly string[] {
  return [`${indent}${name}`, String(count), ...[p50Ms, p99Ms, maxMs].map((ms) => ms.toFixed(1))]
}
