import type { Config } from '../../config/config.ts'
import type { PauseContainers } from '../../controller/pause-container.ts'
import type { ControllerRegistry } from '../../controller/registry.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { removeTree } from '../../host/files.ts'
import type { Shims } from '../../executor/shim/shims.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import { Directories } from '../../lifecycle/directories.ts'
import type { LifecycleEvent } from '../../lifecycle/events.ts'
import { isNamespaceAt } from '../../host/host-paths.ts'
import { Releaser } from '../../lifecycle/release.ts'
import { NetnsPins } from '../../netns/netns.ts'
import { CniAttachments } from '../../sandbox/kinds/cni.ts'
import type { ControlledSandboxes } from '../../sandbox/kinds/controlled.ts'
import { FrontEndPlaces } from '../../sandbox/kinds/front-end.ts'
import { ShmMounts } from '../../sandbox/kinds/shm.ts'
import { UsernsPins } from '../../sandbox/kinds/userns.ts'
import { loadSandboxes } from '../../sandbox/load.ts'
import { sandboxesDir } from '../../sandbox/paths.ts'
import type { PodContainers } from '../../sandbox/life.ts'
import { SandboxManager } from '../../sandbox/sandbox-manager.ts'
import { deriveResources } from './derive-resources.ts'
import type { Base } from '../node.ts'

export interface SandboxParts extends Base {
  readonly bootId: string
  readonly kernel: Kernel
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly pauses: PauseContainers
  readonly shims: Shims
  readonly ensurePauseImage: (signal: AbortSignal) => Promise<void>
  readonly containers: PodContainers
  readonly onEvent: (event: LifecycleEvent) => void
}

/** The sandboxes of this node, with those of an earlier daemon taken up; what became of them is not known yet. */
export async function buildSandboxes(
  config: Config,
  given: SandboxParts,
  parts: CleanupStack,
): Promise<SandboxManager> {
  const { bootId, kernel, registry, controlled, networks, sealer, store, loaded, failpoints, observer } = given
  const logger = given.logs.of('sandbox')
  const { timeouts } = config
  const roots = { root: config.root, state: config.state }
  const netns = new NetnsPins({ directory: config.netnsDir }, { kernel })
  const directories = new Directories(
    { parents: [sandboxesDir(roots.root), sandboxesDir(roots.state)] },
    { remove: removeTree },
  )
  const shm = new ShmMounts(roots, { kernel })
  const userns = new UsernsPins(roots, { kernel })
  const { frontEndRoot, frontEndState, runtimeHandler, createdTtlMs } = config.sandboxer
  const frontEnd = new FrontEndPlaces({ root: frontEndRoot, state: frontEndState }, { kernel })
  const attachments = new CniAttachments({ networks })
  const releaser = new Releaser(
    { budgetMs: timeouts.releaseMs },
    { kinds: [directories, shm, userns, netns, attachments, frontEnd, controlled], failpoints, observer, logger },
  )
  const manager = parts.use(
    new SandboxManager(
      {
        roots,
        bootId,
        defaultRuntimeHandler: config.defaultRuntimeHandler,
        // A reload changes the table.
        sandboxers: {
          get: (name) => config.runtimes[name]?.sandboxer,
          keys: () => Object.keys(config.runtimes).values(),
        },
        runTimeoutMs: timeouts.runPodSandboxMs,
        stopGraceMs: timeouts.stopGraceMs,
        releaseMs: timeouts.releaseMs,
        recoveryConcurrency: config.recovery.concurrency,
        lastCreatedAtNs: BigInt(loaded.node['last_created_at_ns'] ?? '0'),
        served: { runtimeHandler, shimSandboxer: 'shim-v2', createdTtlMs },
      },
      {
        run: {
          sandboxDeps: { store, sealer, logger },
          sealer,
          networks,
          netns,
          directories,
          shm,
          userns,
          frontEnd,
          failpoints,
          observer,
          ensurePauseImage: given.ensurePauseImage,
        },
        registry,
        controlled,
        releaser,
        containers: given.containers,
        kernel,
        isNamespace: async (path) => isNamespaceAt(path, given.programs.run),
        onEvent: given.onEvent,
        logger,
      },
    ),
  )
  const derive = deriveResources(config, {
    netns,
    networks,
    frontEnd,
    pauses: given.pauses,
    shims: given.shims,
  })
  await manager.restore(loadSandboxes(loaded, { roots, bootId }, { sealer, deriveResources: derive }))
  return manager
}
