import { join } from 'node:path'
import type { Config } from '../../config/config.ts'
import { ExecutedContainers } from '../../container/kinds/executed.ts'
import { Orphans } from '../../container/orphans.ts'
import type { Pods } from '../../container/pods.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import type { ConmonExecutor } from '../../executor/conmon-executor.ts'
import { Executors } from '../../executor/executors.ts'
import { endLeftTask } from '../../executor/left-tasks.ts'
import { reapTask } from '../../executor/shim/reap-task.ts'
import { QuietRuntimes } from '../../executor/task/quiet-runtimes.ts'
import { type TaskDeps, TaskExecutor } from '../../executor/task/task-executor.ts'
import type { TaskRecord } from '../../executor/types.ts'
import { cgroupMounts } from '../../host/cgroup/cgroup.ts'
import type { ShimParts } from './shims.ts'

export interface ExecutorParts extends Omit<TaskDeps, 'services' | 'events' | 'api'> {
  readonly bootId: string
  readonly conmon: ConmonExecutor
  readonly shim: ShimParts
  readonly pods: Pods
}

/** All that runs containers. */
export interface OpenedExecutors {
  readonly executor: Executors
  readonly executed: ExecutedContainers
  readonly orphans: Orphans
}

/** What runs the containers of this node: OCI runtimes under conmon, and Task services. */
export function openExecutors(config: Config, given: ExecutorParts, parts: CleanupStack): OpenedExecutors {
  const { bootId, conmon, shim, pods, programs, logger } = given
  const { runtimeMs, remoteMs: callTimeoutMs } = config.timeouts
  const { services, events, messages } = shim
  const tasks = parts.use(
    new TaskExecutor(
      { bootId, runtimeTimeoutMs: runtimeMs, callTimeoutMs },
      { ...given, services, events, api: messages },
    ),
  )
  const mounts = cgroupMounts()
  const reap = async (record: TaskRecord, signal: AbortSignal): Promise<void> => {
    await endLeftTask(record, mounts, signal)
    await reapTask(record, { runtimeMs }, { run: programs.run, messages }, signal)
    await tasks.discard(record)
  }
  const orphans = new Orphans({ pods, reap, logger })
  const runtimes = new QuietRuntimes({ directory: join(config.root, 'runtimes') }, { api: messages })
  const executor = new Executors({ conmon, tasks, runtimes })
  return { executor, executed: new ExecutedContainers(config, { executor, conmon, orphans, pods }), orphans }
}
