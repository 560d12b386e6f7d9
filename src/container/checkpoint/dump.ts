import { join } from 'node:path'
import type { Failpoints } from '../../core/failpoints.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
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
  readonly processes: ProcessCheckpoints
  readonly run: RunProgram
  readonly failpoints: Failpoints
  readonly limits: TarLimits
  readonly timeoutMs: number
}

/**
 * Saves containers as they are at one moment: all are frozen before the first is saved, until the last is. They run again
 * when this returns or throws.
 * @throws CodedError as `ProcessCheckpoints.save` and {@link saveRootfsDiff}.
 */
export async function dumpContainers(
  requests: readonly DumpRequest[],
  deps: DumpDeps,
  signal: AbortSignal,
): Promise<void> {
  const { processes, timeoutMs } = deps
  try {
    await Promise.all(requests.map(({ record }) => processes.freeze(record, signal)))
    await deps.failpoints.hit('container-checkpoint.frozen', signal)
    for (const { record, upper, directory } of requests) {
      const workDir = join(directory, 'work')
      await makeDirectory(directory)
      await processes.save(record, { imageDir: join(directory, 'checkpoint'), workDir, timeoutMs }, signal)
      await removeTree(workDir)
      const file = join(directory, 'rootfs-diff.tar')
      await saveRootfsDiff({ upper, file, limits: deps.limits }, deps.run, { timeoutMs, signal })
    }
  } finally {
    await thawAll(requests, processes)
  }
}

/** Each is tried, also when another cannot be thawed. */
async function thawAll(requests: readonly DumpRequest[], processes: ProcessCheckpoints): Promise<void> {
  const outcomes = await Promise.allSettled(requests.map(({ record }) => processes.thaw(record)))
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}
