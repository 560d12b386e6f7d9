import type { OwnedResource } from '../../core/resource.ts'
import {
  findLeftContainers,
  type LeftContainer,
  type LeftOptions,
  removeLeftContainer,
} from '../../executor/left-containers.ts'
import type { Removal } from '../../executor/removal.ts'
import type { Shims } from '../../executor/shim/shims.ts'
import type { Libc } from '../../host/libc.ts'
import type { NetnsPins } from '../../netns/netns.ts'
import type { Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

export interface ProcessesDeps {
  readonly records: Records
  readonly removal: Removal
  readonly libc: Libc
}

/**
 * Monitors that write into our directories, processes that they have started, and what a runtime keeps of those.
 * @param options asked each time: the runtimes change when the configuration is read again.
 */
export function orphanProcesses(options: () => LeftOptions, deps: ProcessesDeps): OrphanSource {
  const { records } = deps
  const find = (): Promise<LeftContainer[]> => findLeftContainers((id) => !records.isKnown(id), options())
  return {
    kind: 'orphan-process',
    what: 'container',
    remedy: 'killed and removed',
    list: async () => (await find()).map((left) => ({ ownerId: left.record.id, subject: subjectOf(left) })),
    isHeld: ({ ownerId }) => records.isKnown(ownerId),
    release: async (owned, signal) => {
      for (const left of await find()) {
        if (left.record.id === owned.ownerId) await removeLeftContainer(left, options(), deps, signal)
      }
    },
  }
}

function subjectOf({ monitors, process, record }: LeftContainer): string {
  const pids = [...monitors.map(({ pid }) => `conmon ${pid}`), ...(process ? [`process ${process.pid}`] : [])]
  return pids.length > 0 ? pids.join(', ') : `state of ${record.runtime.path} in ${record.runtime.root}`
}

/** Shims that have been told that we are their containerd. Those that are kept ready are nobody's yet, and no orphans. */
export function orphanShims(
  stateDirOf: (id: string) => string,
  deps: {
    readonly records: Records
    readonly shims: Pick<Shims, 'listOwned' | 'derive' | 'delete'>
    readonly netns: Pick<NetnsPins, 'plan'>
  },
): OrphanSource {
  const { records, shims, netns } = deps
  return {
    kind: 'orphan-process',
    what: 'containerd shim',
    remedy: 'ended, with all that runs in it',
    list: async (): Promise<OwnedResource[]> =>
      shims.listOwned().map(({ taskId, pid }) => ({ ownerId: taskId, subject: `shim ${pid}` })),
    isHeld: ({ ownerId }) => records.isKnown(ownerId),
    release: async ({ ownerId }, signal) => {
      const record = shims.derive(ownerId, stateDirOf(ownerId), netns.plan(ownerId).path)
      if (record) await shims.delete(record, null, signal)
    },
  }
}
