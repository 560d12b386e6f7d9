import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { ContainerRecord } from '../executor/types.ts'
import { makeDirectory, removeFile, removeTree } from '../host/files.ts'
import type { RunProgram } from '../host/outcome.ts'
import { expectSuccess } from '../host/outcome.ts'

export interface CheckpointDeps {
  readonly executor: ConmonExecutor
  readonly run: RunProgram
}

/**
 * Writes the state of a running container into a tar archive, as CRIU images under `checkpoint/` beside `config.json`.
 * The container goes on. Nothing is left when it fails.
 *
 * @param request.directory a directory of the container's own, for what is made on the way.
 * @throws CodedError `FailedPrecondition` when the runtime or the node cannot checkpoint.
 */
export async function writeCheckpointArchive(
  record: ContainerRecord,
  request: { readonly location: string; readonly directory: string; readonly timeoutMs: number },
  deps: CheckpointDeps,
  signal: AbortSignal,
): Promise<void> {
  const { location, directory, timeoutMs } = request
  const temporary = `${location}.tmp`
  try {
    await makeDirectory(directory)
    await deps.executor.checkpoint(
      record,
      { imageDir: join(directory, 'checkpoint'), leaveRunning: true, timeoutMs },
      signal,
    )
    const tar = async (...args: string[]): Promise<void> => {
      expectSuccess('/usr/bin/tar', args, await deps.run('/usr/bin/tar', args, { timeoutMs, signal }))
    }
    await tar('--create', `--file=${temporary}`, '-C', directory, 'checkpoint', '-C', record.bundleDir, 'config.json')
    // It holds the memory of the container.
    await chmod(temporary, 0o600)
    const move = ['-T', '--', temporary, location]
    expectSuccess('/bin/mv', move, await deps.run('/bin/mv', move, { timeoutMs, signal }))
  } finally {
    await removeTree(directory)
    await removeFile(temporary)
  }
}
