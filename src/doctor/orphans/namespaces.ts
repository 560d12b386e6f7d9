import type { NetnsPins } from '../../netns/netns.ts'
import { holds, type Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

/**
 * Pinned network namespaces. Their directory is usually one that many use, another sandboxerd among them: there the id
 * has to be one of ours.
 */
export function orphanNamespaces(
  options: { readonly isDirectoryOurs: boolean },
  deps: { readonly records: Records; readonly netns: Pick<NetnsPins, 'listOwned' | 'parse' | 'release'> },
): OrphanSource {
  const { records, netns } = deps
  return {
    kind: 'orphan-netns',
    what: 'network namespace',
    remedy: 'unpinned, with the interfaces in it',
    list: async () =>
      (await netns.listOwned()).filter(({ ownerId }) => options.isDirectoryOurs || records.isOwn(ownerId)),
    isHeld: ({ ownerId }) => holds(records, ownerId, 'netns'),
    release: ({ subject }) => netns.release(netns.parse({ path: subject })),
  }
}
