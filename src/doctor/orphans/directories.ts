import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errnoOf } from '../../core/errors.ts'
import type { OwnedResource } from '../../core/resource.ts'
import { isMissing, removeFile } from '../../host/files.ts'
import { mountPoints } from '../../host/mount-points.ts'
import type { Directories } from '../../lifecycle/directories.ts'
import type { Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

/** The directories of sandboxes, or of containers. What holds a checkpoint is no orphan: it is a record. */
export function orphanDirectories(
  what: string,
  deps: { readonly records: Records; readonly directories: Directories },
): OrphanSource {
  const { records, directories } = deps
  return {
    kind: 'orphan-directory',
    what: `directory of a ${what}`,
    remedy: 'removed',
    list: async () => {
      const all = await directories.listOwned()
      const isHollow = await Promise.all(all.map(({ subject }) => isMissing(join(subject, 'checkpoint.json'))))
      return all.filter((_, at) => isHollow[at])
    },
    isHeld: ({ ownerId }) => records.isKnown(ownerId),
    release: async ({ subject }, signal) => {
      const [mount] = await mountPoints(subject)
      // What is mounted there may be anybody's files.
      if (mount !== undefined) throw new CodedError('FailedPrecondition', `remove ${subject}: ${mount} is mounted`)
      await directories.release(directories.parse({ path: subject }), signal)
    },
  }
}

/** Exit statuses that monitors have written, in a directory of ours. */
export function orphanExits(exitsDir: string, deps: { readonly records: Records }): OrphanSource {
  return {
    kind: 'orphan-file',
    what: 'exit status',
    remedy: 'removed',
    list: async (): Promise<OwnedResource[]> => {
      const names = await readdir(exitsDir).catch((error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return []
        throw error
      })
      const own = names.filter((name) => /^[0-9a-f]{64}$/.test(name))
      return own.map((name) => ({ ownerId: name, subject: join(exitsDir, name) }))
    },
    isHeld: ({ ownerId }) => deps.records.isKnown(ownerId),
    release: ({ subject }) => removeFile(subject),
  }
}
