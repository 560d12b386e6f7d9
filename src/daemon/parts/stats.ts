import type { Config } from '../../config/config.ts'
import type { ContainerManager } from '../../container/container-manager.ts'
import type { ExecutedContainers } from '../../container/kinds/executed.ts'
import { containersDir } from '../../container/paths.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { readCgroupMode } from '../../host/cgroup/cgroup-mode.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { ControllerRegistry } from '../../controller/registry.ts'
import type { TaskServices } from '../../executor/task/types.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import type { ControlledSandboxes } from '../../sandbox/kinds/controlled.ts'
import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'
import { NodeStats } from '../../stats/node-stats.ts'
import { ThreadReader } from '../../stats/reader.ts'
import { ToldReadings } from '../../stats/told-readings.ts'
import type { Stats } from '../../stats/types.ts'
import type { Logger } from '../../telemetry/logger.ts'
import { statsSource } from './stats-source.ts'

export interface StatsParts {
  readonly sandboxes: SandboxManager
  readonly containers: ContainerManager
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly executed: ExecutedContainers
  readonly services: TaskServices
  readonly kernel: Kernel
  readonly programs: Programs
  readonly messages: ProtoGrpcType
  readonly logger: Logger
}

/** One collection of what all pods use. */
const READ_MS = 10_000

/** What the containers and pods of this node use. */
export function openStats(config: Config, given: StatsParts, parts: CleanupStack): Stats {
  const { kernel, programs, messages, logger } = given
  const reader = parts.use(new ThreadReader({ timeoutMs: READ_MS }))
  const cgroup = { systemdCgroup: config.cgroup.driver === 'systemd', isCgroupV2: readCgroupMode() === 'v2' }
  const source = statsSource(given, { roots: config, ...cgroup })
  return parts.use(
    new NodeStats(
      { ...config.stats, layersPath: containersDir(config.root) },
      {
        source,
        reader,
        told: new ToldReadings({ messages, logger }),
        readNetDev: (netns) => kernel.readInNetns({ netns, path: '/proc/thread-self/net/dev' }),
        run: programs.run,
        logger,
      },
    ),
  )
}
