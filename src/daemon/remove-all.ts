import { sleep } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { ContainerManager } from '../container/container-manager.ts'
import type { SandboxManager } from '../sandbox/sandbox-manager.ts'

/** What could not be released is tried again after this time. */
const RETRY_MS = 1000

/** Something that is still there. */
export interface Left {
  readonly id: string
  readonly why: string
}

/**
 * Stops and removes every sandbox, also those of other front ends, and every container, until none is left or `signal`
 * aborts. Never throws; returns what is left, and why.
 */
export async function removeAll(
  { sandboxes, containers }: { readonly sandboxes: SandboxManager; readonly containers: ContainerManager },
  signal: AbortSignal,
): Promise<readonly Left[]> {
  for (;;) {
    const why = new Map<string, string>()
    const tryTo = async (id: string, remove: () => Promise<void>): Promise<void> => {
      try {
        await remove()
      } catch (error) {
        why.set(id, errorMessage(error))
      }
    }
    await Promise.all(
      sandboxes.all().map(async ({ id, metadata }) =>
        tryTo(id, async () => {
          if (metadata.served) await sandboxes.served.shutdown(id, signal)
          else await sandboxes.remove(id, signal)
        }),
      ),
    )
    // Those whose sandbox nobody knows.
    await Promise.all(containers.all().map(async ({ id }) => tryTo(id, async () => containers.remove(id, signal))))
    const left = [...sandboxes.all(), ...containers.all()]
    if (left.length === 0 || signal.aborted) {
      return left.map(({ id }) => ({ id, why: why.get(id) ?? 'the release of something is owed' }))
    }
    await sleep(RETRY_MS, signal).catch(() => undefined)
  }
}
