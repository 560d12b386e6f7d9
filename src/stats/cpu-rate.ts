import type { CpuReading } from './cgroup-reading.ts'

const NS_PER_SECOND = 1e9
/** Shorter windows tell more of the scheduler's ticks than of the load. */
const MIN_WINDOW_NS = 1e9
/** Nobody wants to know the average since the day before yesterday. */
const MAX_WINDOW_NS = 600e9

/** The reading that a rate is counted from. */
export type Baseline = Pick<CpuReading, 'monotonicNs' | 'usageNs'>

/**
 * Billionths of a core in use, and what the next rate is to be counted from. There is no sampling in the background: the
 * window is the time since somebody last asked, which for a kubelet is its own period, and costs nothing when nobody
 * asks. The first reading has no rate.
 */
export function cpuRate(
  baseline: Baseline | null,
  { monotonicNs, usageNs }: Baseline,
): { readonly usageNanoCores: number | null; readonly baseline: Baseline } {
  const now = { monotonicNs, usageNs }
  if (baseline === null) return { usageNanoCores: null, baseline: now }
  const windowNs = monotonicNs - baseline.monotonicNs
  const usedNs = usageNs - baseline.usageNs
  // A cgroup that counts less than before is another one of the same name.
  if (windowNs > MAX_WINDOW_NS || usedNs < 0) return { usageNanoCores: null, baseline: now }
  const usageNanoCores = windowNs > 0 ? Math.round((usedNs / windowNs) * NS_PER_SECOND) : null
  return { usageNanoCores, baseline: windowNs >= MIN_WINDOW_NS ? now : baseline }
}
