import { join } from 'node:path'
import type { Logger } from 'pino'
import { CdiDevices } from '../cdi/cdi-devices.ts'
import type { Config } from '../config/config.ts'
import { type BundleDeps, Bundles } from '../container/bundle.ts'
import type { CheckpointStages } from '../container/checkpoint/stages.ts'
import { Checkpoints } from '../container/checkpoint/checkpoints.ts'
import { ContainerManager } from '../container/container-manager.ts'
import { LAST_CREATED_KEY } from '../container/container.ts'
import { ExecutedContainers } from '../container/kinds/executed.ts'
import { OverlayMounts } from '../container/kinds/overlay.ts'
import { loadContainers } from '../container/load.ts'
import { containerPaths, containersDir } from '../container/paths.ts'
import type { Pods } from '../container/pods.ts'
import { containerResources, planResources } from '../container/resources.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import { CodedError } from '../core/errors.ts'
import type { OwnedResource } from '../core/resource.ts'
import type { Failpoints } from '../core/failpoints.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import { readCgroupLimits } from '../host/cgroup/cgroup-limits.ts'
import { readCgroupMode } from '../host/cgroup/cgroup-mode.ts'
import { lookUpHostPaths } from '../host/host-paths.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import { isAlive } from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import { removeStrangersTree } from '../host/remove-tree.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import type { ImageRootfs } from '../image/types.ts'
import { Directories } from '../lifecycle/directories.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import type { LifecycleEvent } from '../lifecycle/events.ts'
import { Releaser } from '../lifecycle/release.ts'
import { cgroupsPath } from '../oci/cgroups-path.ts'
import type { Loaded } from '../store/rows.ts'

export interface ContainerParts {
  readonly bootId: string
  readonly loaded: Loaded
  readonly durable: DurableDeps
  readonly executor: ConmonExecutor
  readonly programs: Programs
  readonly kernel: Kernel
  readonly hostSecurity: HostSecurityFacts
  readonly seccomp: SeccompProfiles
  readonly images: ImageRootfs
  readonly stages: CheckpointStages
  readonly pods: Pods
  readonly onEvent: (event: LifecycleEvent) => void
  readonly failpoints: Failpoints
  readonly logger: Logger
}

const RELABEL_MS = 60_000

/** The containers of this node, with those of an earlier daemon taken up; what became of them is not known yet. */
export async function buildContainers(
  config: Config,
  given: ContainerParts,
  parts: CleanupStack,
): Promise<ContainerManager> {
  const { bootId, loaded, durable, executor, kernel, failpoints, logger } = given
  const roots = { root: config.root, state: config.state }
  const directories = new Directories(
    { parents: [containersDir(roots.root), containersDir(roots.state)] },
    { remove: (path, signal) => removeStrangersTree(path, given.programs.run, signal) },
  )
  const overlays = new OverlayMounts(roots, { kernel })
  const executed = new ExecutedContainers(roots, { executor })
  const { releaseMs, runPodSandboxMs } = config.timeouts
  const releaser = new Releaser(
    { budgetMs: releaseMs },
    { kinds: [directories, overlays, executed], failpoints, logger },
  )
  const bundles = buildBundles(config, given, () => manager)
  const { timeoutMs: checkpointMs, maxBytes } = config.checkpoint
  const checkpoints = new Checkpoints(
    { roots, maxBytes },
    { executor, run: given.programs.run, stages: given.stages, sealer: durable.sealer, failpoints },
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
        },
        pods: given.pods,
        executed,
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
  { bootId, kernel, hostSecurity, seccomp, pods, executor, programs }: ContainerParts,
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
      features: (runtimePath, signal) => executor.runtimeFeatures(runtimePath, signal),
      relabel: async (files, label, signal) => {
        await programs.runOk('/usr/bin/chcon', ['-R', '--', label, ...files], { timeoutMs: RELABEL_MS, signal })
      },
      pidOf: (containerId, sandboxId) => {
        const { metadata, status } = manager().get(containerId)
        const { process } = status
        const isRunning = status.state === 'RUNNING' && process !== null && isAlive(process, bootId)
        if (metadata.sandboxId === sandboxId && isRunning) return process.pid
        const field = 'config.linux.security_context.namespace_options.target_id'
        throw new CodedError('FailedPrecondition', `${field}: ${containerId} is no running container of this pod`)
      },
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
