/** What is said of a number of durations, all in milliseconds. */
export interface Summary {
  readonly count: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export function summary(valuesMs: readonly number[]): Summary {
  return {
    count: valuesMs.length,
    p50: percentile(valuesMs, 0.5),
    p95: percentile(valuesMs, 0.95),
    p99: percentile(valuesMs, 0.99),
    max: percentile(valuesMs, 1),
  }
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

/** The smallest value that at least `share` of the values do not exceed; NaN of none. */
function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

/** Lines with aligned columns: the first one left, all others right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)))
  const cell = (text: string, column: number): string => {
    const width = widths[column] ?? 0
    return column === 0 ? text.padEnd(width) : text.padStart(width)
  }
  return lines.map((line) => `  ${line.map(cell).join('  ')}`.trimEnd()).join('\n')
}

/** A number for people: two digits after the point below 10, one above. */
export function fixed(value: number): string {
  if (Number.isNaN(value)) return '-'
  return value.toFixed(value < 10 ? 2 : 1)
}
