import { missingAncestors, removeCgroupIfEmpty } from '../host/cgroup/cgroup.ts'
import { DEFAULT_CGROUP_PARENT } from '../oci/cgroups-path.ts'
import type { ContainerRecord } from './types.ts'

/** The cgroups above those of containers, of which we have to remove what was not there before, after the last of them. */
export class CgroupParents {
  readonly #mounts: readonly string[]
  /** The containers that are, or are about to be, below each. */
  readonly #users = new Map<string, Set<string>>()
  /** Ends with what was begun last: between a look and what follows from it nobody makes or removes a parent. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(mounts: readonly string[]) {
    this.#mounts = mounts
  }

  /** Takes note of a new container, and returns those that are to be removed after it, the deepest first. */
  async plan(id: string, cgroupsPath: string): Promise<string[]> {
    return this.#inTurn(async () => {
      const owned = await missingAncestors(this.#mounts, cgroupsPath)
      // Also ours to remove: the default parent, and what another container of ours made.
      for (const parent of [DEFAULT_CGROUP_PARENT, ...this.#users.keys()]) {
        if (cgroupsPath.startsWith(`${parent}/`) && !owned.includes(parent)) owned.push(parent)
      }
      owned.sort((a, b) => b.length - a.length)
      this.adopt({ id, ownedCgroupParents: owned })
      return owned
    })
  }

  adopt(record: Pick<ContainerRecord, 'id' | 'ownedCgroupParents'>): void {
    for (const parent of record.ownedCgroupParents) {
      const users = this.#users.get(parent) ?? new Set()
      this.#users.set(parent, users.add(record.id))
    }
  }

  /** Removes those that only this container was in. */
  async release(record: ContainerRecord): Promise<void> {
    await this.#inTurn(async () => {
      for (const parent of record.ownedCgroupParents) {
        const users = this.#users.get(parent)
        users?.delete(record.id)
        if (users && users.size > 0) continue
        this.#users.delete(parent)
        await removeCgroupIfEmpty(this.#mounts, parent)
      }
    })
  }

  async #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(act, act)
    this.#last = mine
    return mine
  }
}
