/** The time, in nanoseconds since the epoch. */
export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}

/** The monotonic clock has counted from here. */
let originMs = performance.timeOrigin
/** So far may the clocks be apart before the node's is believed anew: it was set. */
const MAX_APART_MS = 10

/** The same, in steps of microseconds. */
export function preciseNowNs(): bigint {
  const [sinceMs, nowMs] = [performance.now(), Date.now()]
  if (Math.abs(originMs + sinceMs - nowMs) > MAX_APART_MS) originMs = nowMs - sinceMs
  return BigInt(Math.round((originMs + sinceMs) * 1000)) * 1000n
}
