import { createContext, Script } from 'node:vm'

/** What takes minutes when it is done once for each character of a long text, and a second when it is done once. */
const LIMIT_MS = 60_000

/** Beyond the time that {@link finishes} gives, which a test that uses it must be given. */
export const FINISH_TEST_MS = 2 * LIMIT_MS

/**
 * Does work that may be of the kind that never ends in practice, on this thread, and ends it if it is. Which work takes how
 * long says nothing on a machine that is busy, so the limit is far from what any takes that does end.
 */
export function finishes(work: () => unknown): void {
  new Script('work()').runInContext(createContext({ work: () => void work() }), { timeout: LIMIT_MS })
}
