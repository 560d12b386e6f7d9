import { join } from 'node:path'
import type { Failpoints } from '../../core/failpoints.ts'
import type { ConmonExecutor } from '../../executor/conmon-executor.ts'
import type { ContainerRecord } from '../../executor/types.ts'
import { makeDirectory, removeTree } from '../../host/files.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import { saveRootfsDiff } from './rootfs-diff.ts'
import type { TarLimits } from './tar-reader.ts'

/** A container that is to be checkpointed. */
export interface DumpRequest {
  readonly record: ContainerRecord
  /** The upper directory of its root file system. */
  readonly upper: string
  /** Where its checkpoint goes: `checkpoint/` by criu, and `rootfs-diff.tar`. */
  readonly directory: string
}

export interface DumpDeps {
  readonly executor: ConmonExecutor
  readonly run: RunProgram
  readonly failpoints: Failpoints
  readonly limits: TarLimits
  readonly timeoutMs: number
}

/**
 * Saves containers as they are at one moment: all are frozen before the first is saved, until the last is. They run again
 * when this returns or throws.
 * @throws CodedError as `ConmonExecutor.checkpoint` and {@link saveRootfsDiff}.
 */
export async function dumpContainers(
  requests: readonly DumpRequest[],
  deps: DumpDeps,
  signal: AbortSignal,
): Promise<void> {
  const { executor, timeoutMs } = deps
  try {
    await Promise.all(requests.map(({ record }) => executor.freeze(record, signal)))
    await deps.failpoints.hit('container-checkpoint.frozen', signal)
    for (const { record, upper, directory } of requests) {
      const workDir = join(directory, 'work')
      await makeDirectory(directory)
      await executor.checkpoint(record, { imageDir: join(directory, 'checkpoint'), workDir, timeoutMs }, signal)
      await removeTree(workDir)
      const file = join(directory, 'rootfs-diff.tar')
      await saveRootfsDiff({ upper, file, limits: deps.limits }, deps.run, { timeoutMs, signal })
    }
  } finally {
    await thawAll(requests, executor)
  }
}

/** Each is tried, also when another cannot be thawed. */
async function thawAll(requests: readonly DumpRequest[], executor: ConmonExecutor): Promise<void> {
  const outcomes = await Promise.allSettled(requests.map(({ record }) => executor.thaw(record)))
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}
