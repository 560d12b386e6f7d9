import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cgroupMounts } from './cgroup.ts'
import { cgroupsOf } from '../process.ts'

/**
 * Makes runtimes create containers faster. The first process that is moved to another cgroup after a while waits for the
 * kernel to switch a lock (`cgroup_threadgroup_rwsem`) to its slow form, one RCU grace period of 10 ms and more; those
 * moved within some milliseconds after that do not. To move ourselves to where we are is enough, and can be done while
 * other things are prepared, in place of the runtime waiting for it when everybody waits for the runtime.
 */
export class CgroupMoves {
  readonly #pid = String(process.pid)
  /** One hierarchy, whichever: the lock is one for all. Undefined where we cannot tell our place. */
  readonly #place = findPlace(cgroupMounts(), this.#pid)
  #isUnderWay = false

  /** Begins to switch the lock, unless that is under way already. Nothing depends on its success. */
  quicken(): void {
    if (this.#isUnderWay) return
    this.#isUnderWay = true
    void this.#moveToWhereWeAre()
  }

  async #moveToWhereWeAre(): Promise<void> {
    const place = await this.#place
    // Asked each time, so that nobody who has moved us meanwhile is thwarted.
    const path = (await cgroupsOf('self')).get(place?.hierarchy ?? '')
    if (place && path !== undefined) {
      // Refused, for instance, where the cgroup may hold no processes any more: it was worth a try.
      await writeFile(join(place.mount, path, 'cgroup.procs'), this.#pid).catch(() => undefined)
    }
    this.#isUnderWay = false
  }
}

interface Place {
  readonly mount: string
  /** The number of the hierarchy, as `/proc/self/cgroup` has it. */
  readonly hierarchy: string
}

async function findPlace(mounts: readonly string[], pid: string): Promise<Place | undefined> {
  for (const mount of mounts) {
    for (const [hierarchy, path] of await cgroupsOf('self')) {
      // A cgroup of that path may be in another hierarchy, too, without us.
      const procs = await readFile(join(mount, path, 'cgroup.procs'), 'utf8').catch(() => '')
      if (procs.split('\n').includes(pid)) return { mount, hierarchy }
    }
  }
  return undefined
}
