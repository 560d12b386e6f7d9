import { join } from 'node:path'
import { containersDir } from '../../container/paths.ts'
import type { OwnedResource } from '../../core/resource.ts'
import { mountPoints } from '../../host/mount-points.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import { sandboxesDir } from '../../sandbox/paths.ts'
import type { Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

/** Mounts in the state directories of sandboxes and containers: shm, root file systems, images, pinned namespaces. */
export function orphanMounts(
  state: string,
  deps: { readonly records: Records; readonly kernel: Pick<Kernel, 'unmount'> },
): OrphanSource {
  return {
    kind: 'orphan-mount',
    what: 'mount',
    remedy: 'unmounted',
    list: async () => {
      const lists = await Promise.all([sandboxesDir(state), containersDir(state)].map(mountsOfOwners))
      return lists.flat()
    },
    isHeld: ({ ownerId }) => deps.records.isKnown(ownerId),
    release: ({ subject }) => deps.kernel.unmount(subject),
  }
}

/** The innermost first. */
async function mountsOfOwners(parent: string): Promise<OwnedResource[]> {
  const paths = new Set((await mountPoints(parent)).toReversed())
  return [...paths].flatMap((path) => {
    const id = path.slice(parent.length + 1).split('/')[0] ?? ''
    return /^[0-9a-f]{64}$/.test(id) && path !== join(parent, id) ? [{ ownerId: id, subject: path }] : []
  })
}
