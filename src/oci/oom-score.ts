/** What the pod's pause process gets, as with other runtimes: nearly the last to be killed for memory. */
export const SANDBOX_OOM_SCORE_ADJ = -998

/**
 * The `oom_score_adj` to ask for. Without CAP_SYS_RESOURCE the kernel lets a process only raise its own value, and runc
 * then fails without a message: a nested daemon gets its own value instead of a lower one.
 */
export function clampOomScoreAdj(wanted: number, own: number, hasSysResource: boolean): number {
  const inRange = Math.min(1000, Math.max(-1000, Math.trunc(wanted)))
  return hasSysResource ? inRange : Math.max(inRange, own)
}
