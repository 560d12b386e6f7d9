import { basename } from 'node:path'
import { liftCpuQuota } from '../../host/cgroup/cgroup.ts'
import { ociJson } from '../../oci/json.ts'
import type { Resources } from '../../oci/spec.ts'
import type { loadShimApi } from '../../grpc/load.ts'
import { taskCgroupDirectory } from '../cgroup-directory.ts'
import type { TaskRecord } from '../types.ts'
import { RESOURCES_TYPE, runcOptionsIn } from './task-messages.ts'
import type { TaskCall, TaskService } from './types.ts'

export interface UpdateDeps {
  readonly service: Pick<TaskService, 'update'>
  readonly api: Pick<ReturnType<typeof loadShimApi>, 'containerd'>
  readonly cgroupMounts: readonly string[]
}

/** See `Executor.update`. */
export async function updateTask(
  record: TaskRecord,
  resources: Resources,
  deps: UpdateDeps,
  call: TaskCall,
): Promise<void> {
  const { quota, ...cpu } = resources.cpu ?? {}
  // crun writes -1 as an unsigned number on v1, which the kernel refuses, and on v2 only together with a period.
  const runtime = basename(runcOptionsIn(record.options, deps.api)?.binary_name ?? '')
  const isLifted = quota !== undefined && quota < 0n && runtime === 'crun'
  const value = Buffer.from(ociJson(isLifted ? { ...resources, cpu } : resources))
  await deps.service.update({ id: record.id, resources: { type_url: RESOURCES_TYPE, value } }, call)
  if (isLifted) await liftCpuQuota(deps.cgroupMounts, taskCgroupDirectory(record))
}
