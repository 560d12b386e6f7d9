import type { ExecutedRecord } from '../executor/types.ts'
import type { DirectoryRecord } from '../lifecycle/directories.ts'
import type { ReleaseChain } from '../lifecycle/release.ts'
import { CONTAINER_KIND, intents, type LedgerEntry } from '../store/ledger.ts'
import { type ContainerPaths, imageMountPath } from './paths.ts'
import type { ContainerConfig } from './types.ts'

/** An image that a container mounts, however often. */
export interface ImageMount {
  /** As the request names it. */
  readonly image: string
  readonly path: string
}

/** Everything that one container is going to own. */
export interface ContainerResourcePlan {
  readonly directories: readonly DirectoryRecord[]
  readonly rootfs: string
  readonly imageMounts: readonly ImageMount[]
  readonly executed: ExecutedRecord
}

export function planResources(
  config: Pick<ContainerConfig, 'mounts'>,
  paths: ContainerPaths,
  executed: ExecutedRecord,
): ContainerResourcePlan {
  return {
    directories: [{ path: paths.rootDir }, { path: paths.stateDir }],
    rootfs: paths.rootfs,
    imageMounts: imagesToMount(config).map((image, index) => ({ image, path: imageMountPath(paths, index) })),
    executed,
  }
}

/** The images that a container mounts, each once, as the request names them. */
export function imagesToMount({ mounts }: Pick<ContainerConfig, 'mounts'>): string[] {
  return [...new Set(mounts.flatMap(({ image }) => (image ? [image.image] : [])))]
}

/** The ledger entries of what is about to be made. */
export function containerIntents(plan: ContainerResourcePlan, id: string, bootId: string): LedgerEntry[] {
  return intents(containerResources(plan), id, bootId)
}

/** What is going to be made, in that order. */
export function containerResources(
  plan: ContainerResourcePlan,
): readonly { readonly kind: string; readonly record: unknown }[] {
  return [
    ...plan.directories.map((record) => ({ kind: 'directory', record })),
    ...[plan.rootfs, ...plan.imageMounts.map(({ path }) => path)].map((path) => ({
      kind: 'overlay',
      record: { path },
    })),
    { kind: CONTAINER_KIND, record: plan.executed },
  ]
}

/** Mounts stay for as long as something may run on them. */
export const RELEASE_CHAINS: readonly ReleaseChain[] = [{ kinds: [CONTAINER_KIND, 'overlay'], strict: true }]
