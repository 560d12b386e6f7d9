/** ISO 8601 in UTC, to the millisecond, of nanoseconds since the epoch. */
export function isoOfNs(ns: bigint): string {
  return new Date(Number(ns / 1_000_000n)).toISOString()
}
