import { killCgroup, removeCgroup } from '../host/cgroup/cgroup.ts'
import { taskCgroupDirectory } from './cgroup-directory.ts'
import type { TaskRecord } from './types.ts'

/**
 * Ends what is on this node of a container whose Task service is gone: everything in its cgroup, and that. What runs
 * elsewhere has no cgroup here. Nothing there is success.
 * @throws CodedError `FailedPrecondition` when something in it cannot be killed.
 */
export async function endLeftTask(record: TaskRecord, mounts: readonly string[], signal: AbortSignal): Promise<void> {
  const directory = taskCgroupDirectory(record)
  await killCgroup(mounts, directory, signal)
  await removeCgroup(mounts, directory, signal)
}
