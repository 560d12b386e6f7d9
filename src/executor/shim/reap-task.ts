import { join } from 'node:path'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import { isMissing, removeTree } from '../../host/files.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import { expectSuccess } from '../../host/programs/outcome.ts'
import { TASK_NAMESPACE } from '../task/task-channel.ts'
import type { TaskRecord } from '../types.ts'
import { runtimeOf } from './runtime-options.ts'

/**
 * Removes what a shim that is gone has left of a container at its OCI runtime. Its processes and its cgroup are the
 * caller's to end before. Nothing there is success, and so is a shim that runs none.
 */
export async function reapTask(
  record: TaskRecord,
  options: { readonly runtimeMs: number },
  deps: { readonly run: RunProgram; readonly messages: ProtoGrpcType },
  signal: AbortSignal,
): Promise<void> {
  const runtime = runtimeOf(record.options, TASK_NAMESPACE, deps.messages)
  if (!runtime) return
  const stateDir = join(runtime.root, record.id)
  if (await isMissing(stateDir)) return
  const args = [
    '--root',
    runtime.root,
    ...(runtime.systemdCgroup ? ['--systemd-cgroup'] : []),
    'delete',
    '--force',
    record.id,
  ]
  try {
    const limits = { timeoutMs: options.runtimeMs, signal }
    expectSuccess(runtime.path, args, await deps.run(runtime.path, args, limits))
  } catch (error) {
    signal.throwIfAborted()
    if (await isMissing(stateDir)) return
    throw new CodedError('Internal', `remove what is left of container ${record.id}: ${errorMessage(error)}`, {
      cause: error,
    })
  }
  await removeTree(stateDir)
}
