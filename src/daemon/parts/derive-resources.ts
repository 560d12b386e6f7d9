import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import type { PauseContainers, PauseRecord } from '../../controller/pause-container.ts'
import type { Shims } from '../../executor/shim/shims.ts'
import type { ShimRecord } from '../../executor/shim/types.ts'
import type { NetnsPins } from '../../netns/netns.ts'
import type { ControlledRecord } from '../../sandbox/kinds/controlled.ts'
import type { FrontEndPlaces } from '../../sandbox/kinds/front-end.ts'
import { sandboxPaths } from '../../sandbox/paths.ts'
import type { CheckpointData } from '../../sandbox/status.ts'
import type { SandboxMetadata } from '../../sandbox/types.ts'

/**
 * What a sandbox must own of which only the id is known, because neither its row nor its checkpoint can be read: places
 * follow from the id, and its network is taken to be today's default one. Releasing what is not there does no harm.
 */
export function deriveResources(
  config: Config,
  deps: {
    readonly netns: NetnsPins
    readonly networks: CniNetworks
    readonly frontEnd: FrontEndPlaces
    readonly pauses: PauseContainers
    readonly shims: Shims
  },
): (metadata: SandboxMetadata) => CheckpointData['resources'] {
  return (metadata) => {
    const paths = sandboxPaths({ root: config.root, state: config.state }, metadata.id)
    const netns = deps.netns.plan(metadata.id)
    const pod = { id: metadata.id, netnsPath: netns.path, config: metadata.config }
    const attachments = deps.networks.status().ready ? deps.networks.plan(pod) : []
    const frontEnd = deps.frontEnd.plan(metadata.id, true)
    const pause = deps.pauses.derive(metadata.id, paths.stateDir)
    const shim = deps.shims.derive(metadata.id, paths.stateDir, netns.path)
    const controlled = deriveController(paths.stateDir, pause, shim)
    return [
      { kind: 'directory', record: { path: paths.rootDir } },
      { kind: 'directory', record: { path: paths.stateDir } },
      { kind: 'shm', record: { path: paths.shm } },
      { kind: 'userns', record: { path: paths.userns } },
      { kind: 'netns', record: netns },
      ...attachments.map((attachment) => ({ kind: 'cni', record: { attachment, result: null } })),
      ...(frontEnd ? [{ kind: 'frontend', record: frontEnd }] : []),
      ...(controlled ? [{ kind: 'controller', record: controlled }] : []),
    ]
  }
}

/** Pinned namespaces tell the pinned controller's sandboxes from the shim's, and a shim those of containerd shims. */
function deriveController(
  stateDir: string,
  container: PauseRecord | null,
  shim: ShimRecord | null,
): ControlledRecord | null {
  if (shim && container) return { sandboxer: 'shim-v2', record: { ...container, shim, started: null } }
  const pins = ['ipc', 'uts'].map((name) => (existsSync(join(stateDir, name)) ? join(stateDir, name) : ''))
  const [ipcPath = '', utsPath = ''] = pins
  if (ipcPath !== '' || utsPath !== '') return { sandboxer: 'pinned', record: { ipcPath, utsPath, pause: container } }
  return container && { sandboxer: 'shim', record: { ...container } }
}
