import { join } from 'node:path'
import { Happenings } from '../admin/happenings.ts'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { Config } from '../config/config.ts'
import type { ContainerManager } from '../container/container-manager.ts'
import type { ExecutedContainers } from '../container/kinds/executed.ts'
import type { PodCheckpoints } from '../container/types.ts'
import { ControlledSandboxes } from '../sandbox/kinds/controlled.ts'
import type { ControllerRegistry } from '../controller/registry.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import type { Failpoints } from '../core/failpoints.ts'
import type { LogRoom } from '../core/log-rooms.ts'
import type { Observer } from '../core/observer.ts'
import type { Sealer } from '../core/seal.ts'
import { ContainerEvents } from '../cri/events.ts'
import { ContainerLogs } from '../executor/attach/logs.ts'
import { ConmonExecutor } from '../executor/conmon-executor.ts'
import { ExitWatch } from '../executor/exit-watch.ts'
import { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import type { Shims } from '../executor/shim/shims.ts'
import type { Contracts } from '../grpc/load.ts'
import { loadDescriptors } from '../host/descriptors.ts'
import { Kernel } from '../host/kernel/kernel.ts'
import type { Libc } from '../host/libc.ts'
import { readBootId } from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import { Relay } from '../host/relay/relay.ts'
import { type HostSecurityFacts, readHostSecurity } from '../host/security.ts'
import type { ImageStore } from '../image/image-store.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import type { SandboxManager } from '../sandbox/sandbox-manager.ts'
import type { Stats } from '../stats/types.ts'
import type { Loaded } from '../store/rows.ts'
import type { Store } from '../store/store.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Logs } from '../telemetry/logs.ts'
import { namesOf } from './parts/admin.ts'
import { buildPodCheckpoints, openCheckpointStages } from './parts/checkpoints.ts'
import { buildContainers } from './parts/containers.ts'
import { buildControllers } from './parts/controllers.ts'
import { openExecutors } from './parts/executors.ts'
import { openImages } from './parts/images.ts'
import { openPauseSource } from './parts/pause-source.ts'
import { announcerOf, podsOf } from './parts/pods.ts'
import { buildSandboxes } from './parts/sandboxes.ts'
import { openShims } from './parts/shims.ts'
import { openStats } from './parts/stats.ts'

/** Setting up or removing a namespace or mount. */
const KERNEL_MS = 30_000
/** To open a log; more only on a disk that hangs. */
const LOG_MS = 10_000

/** What stands below sandboxes and containers. */
export interface Base {
  readonly libc: Libc
  readonly programs: Programs
  readonly sealer: Sealer
  readonly store: Store
  readonly loaded: Loaded
  readonly networks: CniNetworks
  readonly failpoints: Failpoints
  readonly contracts: Contracts
  readonly logs: Logs
  readonly observer: Observer
}

/** What the front ends serve. */
export interface Node {
  readonly sandboxes: SandboxManager
  readonly containers: ContainerManager
  /** Null where the configuration does not allow any. */
  readonly podCheckpoints: PodCheckpoints | null
  readonly images: ImageStore
  readonly stats: Stats
  readonly events: ContainerEvents
  readonly executor: ConmonExecutor
  readonly kernel: Kernel
  readonly registry: ControllerRegistry
  /** How many shims are ready for a sandbox. */
  readonly warmShims: () => number
  /** Makes those known that are new; the others stay as they are. */
  readonly addSandboxers: (sandboxers: Config['sandboxers']) => void
  readonly shims: Shims
  readonly controlled: ControlledSandboxes
  readonly executed: ExecutedContainers
  /** What happens, for who looks after the node. */
  readonly happenings: Happenings
  readonly hostSecurity: HostSecurityFacts
}

/** Builds the parts of the node, and takes up what an earlier daemon has left on record. */
export async function buildNode(config: Config, base: Base, parts: CleanupStack): Promise<Node> {
  const { libc, programs, sealer, store, loaded, failpoints, contracts, observer } = base
  const log = (room: LogRoom): Logger => base.logs.of(room)
  const bootId = readBootId()
  const durable = { store, sealer, logger: log('container') }
  const kernel = parts.use(new Kernel({ timeoutMs: KERNEL_MS }))
  kernel.warmUp()
  const exitsDir = join(config.state, 'exits')
  const exits = parts.use(new ExitWatch({ directory: exitsDir, bootId }, { logger: log('executor') }))
  const logs = parts.use(new ContainerLogs({ timeoutMs: LOG_MS }))
  const descriptors = loadDescriptors()
  const relay = parts.use(new Relay({ descriptors }))
  const executor = new ConmonExecutor(
    {
      conmonPath: config.conmon.path,
      exitsDir,
      runtimeTimeoutMs: config.timeouts.runtimeMs,
      bootId,
      criuPath: config.checkpoint.criu,
    },
    { libc, programs, exits, logs, relay, descriptors, observer },
  )
  const hostSecurity = readHostSecurity()
  const seccomp = await SeccompProfiles.load(config.seccomp.defaultProfile, hostSecurity, { programs })
  // Each of the two knows the other by a small interface: none is used before both are there.
  const onEvent = (event: LifecycleEvent): void => {
    events.publish(event)
    happenings.publish(event)
  }
  const usedBy = (imageId: string): string[] => containers.usersOf(imageId)
  const images = await openImages(config, { programs, libc, usedBy, observer, logger: log('image') }, parts)
  const pause = await openPauseSource(config, { images, kernel }, parts)
  const shim = await openShims(
    config,
    { programs, libc, bootId, messages: contracts.shim, observer, logger: log('shim') },
    parts,
  )
  const { registry, pauses, addSandboxers } = buildControllers(
    config,
    { executor, kernel, pause: pause.program, hostSecurity, seccomp, shim, bootId, contracts, observer },
    parts,
  )
  const controlled = new ControlledSandboxes({ registry })
  const podDeps = { sandboxes: () => sandboxes, registry, controlled, optionsOf: shim.optionsOf }
  const pods = podsOf(config, podDeps)
  const sandboxes: SandboxManager = await buildSandboxes(
    config,
    {
      ...base,
      bootId,
      kernel,
      registry,
      controlled,
      pauses,
      shims: shim.shims,
      ensurePauseImage: pause.ensure,
      containers: {
        stopPod: async (id) => containers.stopPod(id),
        removePod: async (id) => containers.removePod(id),
        forgetPod: (id) => containers.forgetPod(id),
      },
      onEvent,
    },
    parts,
  )
  const executors = openExecutors(
    config,
    {
      bootId,
      conmon: executor,
      shim,
      pods,
      announcer: announcerOf(podDeps),
      programs,
      libc,
      descriptors,
      logs,
      logger: log('container'),
    },
    parts,
  )
  const { executed } = executors
  const processes = executor.checkpoints
  const stages = await openCheckpointStages(config, { processes, executed, programs, logger: log('container') })
  const containers: ContainerManager = await buildContainers(
    config,
    {
      bootId,
      stages,
      loaded,
      durable,
      ...executors,
      processes,
      features: (path, signal) => executor.runtimeFeatures(path, signal),
      programs,
      kernel,
      hostSecurity,
      seccomp,
      images,
      pods,
      onEvent,
      failpoints,
      observer,
      logger: log('container'),
    },
    parts,
  )
  const events = parts.use(new ContainerEvents({ sandboxes, containers }))
  const happenings = new Happenings({ names: namesOf(sandboxes, containers) })
  const podCheckpoints = buildPodCheckpoints(config, {
    processes,
    programs,
    stages,
    sealer,
    images,
    sandboxes,
    containers,
    logger: log('container'),
  })
  const stats = openStats(
    config,
    {
      sandboxes,
      containers,
      registry,
      controlled,
      executed,
      services: shim.services,
      messages: shim.messages,
      kernel,
      programs,
      logger: log('stats'),
    },
    parts,
  )
  return {
    sandboxes,
    containers,
    podCheckpoints,
    images,
    stats,
    events,
    executor,
    kernel,
    registry,
    warmShims: () => shim.shims.warm,
    addSandboxers,
    shims: shim.shims,
    controlled,
    executed,
    happenings,
    hostSecurity,
  }
}
