/**
 * How many times slower programs run than on a machine of their own: what tests wait for takes that much longer.
 * scripts/test-in-vm.sh names it. What must not take longer than is promised is never scaled.
 */
const SLOWNESS = Math.max(1, Number(process.env['SANDBOXERD_TEST_SLOWNESS'] ?? '1') || 1)

/** The time to give to what takes `ms` at most elsewhere. */
export function slowed(ms: number): number {
  return ms * SLOWNESS
}
