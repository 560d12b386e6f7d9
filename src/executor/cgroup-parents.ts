import { missingAncestors, removeCgroupIfEmpty } from '../host/cgroup.ts'
import { DEFAULT_CGROUP_PARENT } from '../oci/cgroups-path.ts'
import type { ContainerRecord } from './types.ts'

/** The cgroups above those of containers, of which we have to remove what was not there before, after the last of them. */
export class CgroupParents {
  readonly #mounts: readonly string[]
  /** The containers that are, or are about to be, below each. */
  readonly #users = new Map<string, Set<string>>()

  constructor(mounts: readonly string[]) {
    this.#mounts = mounts
  }

  /** Those of a new container, the deepest first. */
  async plan(cgroupsPath: string): Promise<string[]> {
    const owned = await missingAncestors(this.#mounts, cgroupsPath)
    // Also ours to remove: the default parent, and what another container of ours made.
    for (const parent of [DEFAULT_CGROUP_PARENT, ...this.#users.keys()]) {
      if (cgroupsPath.startsWith(`${parent}/`) && !owned.includes(parent)) owned.push(parent)
    }
    return owned.sort((a, b) => b.length - a.length)
  }

  adopt(record: ContainerRecord): void {
    for (const parent of record.ownedCgroupParents) {
      const users = this.#users.get(parent) ?? new Set()
      this.#users.set(parent, users.add(record.id))
    }
  }

  /** Removes those that only this container was in. */
  async release(record: ContainerRecord): Promise<void> {
    for (const parent of record.ownedCgroupParents) {
      const users = this.#users.get(parent)
      users?.delete(record.id)
      if (users && users.size > 0) continue
      this.#users.delete(parent)
      await removeCgroupIfEmpty(this.#mounts, parent)
    }
  }
}
