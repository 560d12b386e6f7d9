import { join } from 'node:path'
import type { Logger } from 'pino'
import { CdiDevices } from '../../cdi/cdi-devices.ts'
import type { Config } from '../../config/config.ts'
import { type BundleDeps, Bundles } from '../../container/bundle.ts'
import type { CheckpointStages } from '../../container/checkpoint/stages.ts'
import { Checkpoints } from '../../container/checkpoint/checkpoints.ts'
import { ContainerManager } from '../../container/container-manager.ts'
import { LAST_CREATED_KEY } from '../../container/container.ts'
import type { ExecutedContainers } from '../../container/kinds/executed.ts'
import { OverlayMounts } from '../../container/kinds/overlay.ts'
import { loadContainers } from '../../container/load.ts'
import { containerPaths, containersDir } from '../../container/paths.ts'
import type { Orphans } from '../../container/orphans.ts'
import type { Pods } from '../../container/pods.ts'
import { containerResources, planResources } from '../../container/resources.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import type { OwnedResource } from '../../core/resource.ts'
import type { Failpoints } from '../../core/failpoints.ts'
import type { Observer } from '../../core/observer.ts'
import type { Executors } from '../../executor/executors.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import type { SeccompProfiles } from '../../executor/seccomp-profiles.ts'
import { readCgroupLimits } from '../../host/cgroup/cgroup-limits.ts'
import { readCgroupMode } from '../../host/cgroup/cgroup-mode.ts'
import { lookUpHostPaths } from '../../host/host-paths.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import type { Programs } from '../../host/programs/programs.ts'
import { removeStrangersTree } from '../../host/remove-tree.ts'
import type { HostSecurityFacts } from '../../host/security.ts'
import type { ImageRootfs } from '../../image/types.ts'
import { Directories } from '../../lifecycle/directories.ts'
import type { DurableDeps } from '../../lifecycle/durable.ts'
import type { LifecycleEvent } from '../../lifecycle/events.ts'
import { Releaser } from '../../lifecycle/release.ts'
import { cgroupsPath } from '../../oci/cgroups-path.ts'
import type { Loaded } from '../../store/rows.ts'

export interface ContainerParts {
  readonly bootId: string
  readonly loaded: Loaded
  readonly durable: DurableDeps
  readonly executor: Executors
  readonly executed: ExecutedContainers
  readonly orphans: Orphans
  readonly processes: ProcessCheckpoints
  readonly features: BundleDeps['features']
  readonly programs: Programs
  readonly kernel: Kernel
  readonly hostSecurity: HostSecurityFacts
  readonly seccomp: SeccompProfiles
  readonly images: ImageRootfs
  readonly stages: CheckpointStages
  readonly pods: Pods
  readonly onEvent: (event: LifecycleEvent) => void
  readonly failpoints: Failpoints
  readonly observer: Observer
  readonly logger: Logger
}

const RELABEL_MS = 60_000

/** The containers of this node, with those of an earlier daemon taken up; what became of them is not known yet. */
export async function buildContainers(
  config: Config,
  given: ContainerParts,
  parts: CleanupStack,
): Promise<ContainerManager> {
  const { bootId, loaded, durable, executor, executed, processes, kernel, failpoints, observer, logger } = given
  const roots = { root: config.root, state: config.state }
  const directories = new Directories(
    { parents: [containersDir(roots.root), containersDir(roots.state)] },
    { remove: (path, signal) => removeStrangersTree(path, given.programs.run, signal) },
  )
  const overlays = new OverlayMounts(roots, { kernel })
  const { releaseMs, runPodSandboxMs } = config.timeouts
  const releaser = new Releaser(
    { budgetMs: releaseMs },
    { kinds: [directories, overlays, executed], failpoints, observer, logger },
  )
  const bundles = buildBundles(config, given, () => manager)
  const { timeoutMs: checkpointMs, maxBytes } = config.checkpoint
  const checkpoints = new Checkpoints(
    { roots, maxBytes },
    { processes, run: given.programs.run, stages: given.stages, sealer: durable.sealer, failpoints },
  )
  const manager: ContainerManager = parts.use(
    new ContainerManager(
      {
        roots,
        bootId,
        createTimeoutMs: runPodSandboxMs,
        checkpointMs,
        logMaxBytes: config.conmon.logMaxBytes,
        recoveryConcurrency: config.recovery.concurrency,
        lastCreatedAtNs: BigInt(loaded.node[LAST_CREATED_KEY] ?? '0'),
      },
      {
        create: {
          durable,
          executor,
          images: given.images,
          directories,
          overlays,
          bundles,
          run: given.programs.run,
          failpoints,
          observer,
        },
        pods: given.pods,
        executed,
        orphans: given.orphans,
        processes,
        checkpoints,
        releaser,
        run: given.programs.run,
        onEvent: given.onEvent,
        logger,
      },
    ),
  )
  const deriveResources = deriveFrom(config, await overlays.listOwned())
  await manager.restore(loadContainers(loaded, { roots, bootId }, { sealer: durable.sealer, deriveResources }))
  return manager
}

function buildBundles(
  config: Config,
  { kernel, hostSecurity, seccomp, pods, features, programs }: ContainerParts,
  manager: () => ContainerManager,
): Bundles {
  const hostPaths: BundleDeps['hostPaths'] = async (requests) => lookUpHostPaths(requests, programs.run)
  return new Bundles(
    {
      cgroupDriver: config.cgroup.driver,
      cgroupMode: readCgroupMode(),
      limits: readCgroupLimits(),
      hostSecurity,
    },
    {
      kernel,
      hostPaths,
      cdi: new CdiDevices({ specDirs: config.cdi.specDirs }, { hostPaths }),
      pods,
      seccomp,
      features,
      relabel: async (files, label, signal) => {
        await programs.runOk('/usr/bin/chcon', ['-R', '--', label, ...files], { timeoutMs: RELABEL_MS, signal })
      },
      pidOf: (containerId, sandboxId, signal) => manager().targetPid(containerId, sandboxId, signal),
    },
  )
}

/**
 * What a container must own of which only the id is known: places follow from the id, its mounts are there to be seen, and
 * its cgroup is today's default.
 */
function deriveFrom(config: Config, mounts: readonly OwnedResource[]) {
  return (id: string): readonly { readonly kind: string; readonly record: unknown }[] => {
    const paths = containerPaths(config, id)
    const { runtime = '', runtimeRoot = '' } = config.runtimes[config.defaultRuntimeHandler] ?? {}
    const { driver } = config.cgroup
    const executed = {
      id,
      runtime: { path: runtime, root: runtimeRoot, systemdCgroup: driver === 'systemd' },
      bundleDir: join(containersDir(config.state), id),
      cgroupsPath: cgroupsPath({ driver, cgroupParent: '', id }),
      ownedCgroupParents: [],
    }
    const own = mounts.filter(({ ownerId }) => ownerId === id).map(({ subject: path }) => path)
    const imageMounts = own.filter((path) => path !== paths.rootfs).map((path) => ({ image: '', path }))
    return containerResources({ ...planResources(EMPTY, paths, executed), imageMounts })
  }
}

/** Nothing that is mounted is known. */
const EMPTY = { mounts: [] }
