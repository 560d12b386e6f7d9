import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../core/errors.ts'
import type { OwnedResource } from '../../core/resource.ts'
import { cgroupExists, removeCgroup } from '../../host/cgroup/cgroup.ts'
import type { Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

/** `<id>` with the cgroupfs driver, `sandboxerd-<id>.scope` with systemd. */
const NAME = /^(?:([0-9a-f]{64})|sandboxerd-([0-9a-f]{64})\.scope)$/
/** Deeper than any kubelet puts its pods. */
const MAX_DEPTH = 12

/**
 * Cgroups that are named after a sandbox or container of ours, anywhere: their parents are the callers'. Other runtimes name
 * theirs in the same way, so that the id has to be one of ours.
 * @param deps.mounts where the hierarchies are.
 */
export function orphanCgroups(deps: { readonly records: Records; readonly mounts: readonly string[] }): OrphanSource {
  const { records, mounts } = deps
  return {
    kind: 'orphan-cgroup',
    what: 'cgroup',
    remedy: 'removed, and what is left in it killed',
    list: async () => {
      const lists = await Promise.all(mounts.map((mount) => cgroupsBelow(mount, '')))
      const found = new Map(lists.flat().map((owned) => [owned.subject, owned]))
      return [...found.values()].filter(({ ownerId }) => records.isOwn(ownerId))
    },
    isThere: ({ subject }) => cgroupExists(mounts, subject),
    isHeld: ({ ownerId }) => records.isKnown(ownerId),
    release: ({ subject }, signal) => removeCgroup(mounts, subject, signal),
  }
}

async function cgroupsBelow(mount: string, path: string, depth = 0): Promise<OwnedResource[]> {
  if (depth > MAX_DEPTH) return []
  const found: OwnedResource[] = []
  for (const name of await directoriesIn(join(mount, path))) {
    const subject = `${path}/${name}`
    const match = NAME.exec(name)
    const ownerId = match?.[1] ?? match?.[2]
    if (ownerId !== undefined) found.push({ ownerId, subject })
    else found.push(...(await cgroupsBelow(mount, subject, depth + 1)))
  }
  return found
}

async function directoriesIn(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
