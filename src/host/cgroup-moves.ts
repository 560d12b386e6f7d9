import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cgroupMounts } from './cgroup.ts'

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
    if (!this.#place || this.#isUnderWay) return
    this.#isUnderWay = true
    void this.#moveToWhereWeAre(this.#place)
  }

  async #moveToWhereWeAre({ mount, hierarchy }: Place): Promise<void> {
    // Asked each time, so that nobody who has moved us meanwhile is thwarted.
    const path = ownPaths().get(hierarchy) ?? '/'
    // Refused, for instance, where the cgroup may hold no processes any more: it was worth a try.
    await writeFile(join(mount, path, 'cgroup.procs'), this.#pid).catch(() => undefined)
    this.#isUnderWay = false
  }
}

interface Place {
  readonly mount: string
  /** The number of the hierarchy, as `/proc/self/cgroup` has it. */
  readonly hierarchy: string
}

function findPlace(mounts: readonly string[], pid: string): Place | undefined {
  for (const mount of mounts) {
    for (const [hierarchy, path] of ownPaths()) {
      if (holds(join(mount, path, 'cgroup.procs'), pid)) return { mount, hierarchy }
    }
  }
  return undefined
}

/** Our cgroup in each hierarchy, by its number. */
function ownPaths(): Map<string, string> {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n')
  return new Map(lines.map((line) => [line.split(':')[0] ?? '', line.split(':').slice(2).join(':')]))
}

function holds(procs: string, pid: string): boolean {
  try {
    return readFileSync(procs, 'utf8').split('\n').includes(pid)
  } catch {
    // No such cgroup in that hierarchy.
    return false
  }
}
