import { dirname } from 'node:path'
import { oomKills } from '../../host/cgroup/cgroup.ts'
import { taskCgroupDirectory } from '../cgroup-directory.ts'
import type { ExitStatus, TaskRecord } from '../types.ts'
import { SIGKILL } from './task-messages.ts'
import { type CgroupMetrics, oomKillsIn } from './task-metrics.ts'

/** SIGKILL, as shells count it. */
const KILLED = 128 + SIGKILL

/** Which containers the kernel has killed for want of memory. */
export class OomKills {
  readonly #mounts: readonly string[]
  /** The containers that are known, and whether their service has told that memory ran out. */
  readonly #told = new Map<string, boolean>()

  constructor(mounts: readonly string[]) {
    this.#mounts = mounts
  }

  /** From here on what the service tells of a container counts. */
  know({ id }: TaskRecord): void {
    this.#told.set(id, false)
  }

  forget({ id }: TaskRecord): void {
    this.#told.delete(id)
  }

  /** The service of a container tells that its memory has run out. */
  told(containerId: string): void {
    if (this.#told.has(containerId)) this.#told.set(containerId, true)
  }

  /** How often that has happened in the slice of a container until now: what {@link wasKilled} compares with later. */
  async inSlice(record: TaskRecord): Promise<number> {
    return (await oomKills(this.#mounts, dirname(taskCgroupDirectory(record)))) ?? 0
  }

  /**
   * It was killed by SIGKILL, and the service has told of it, or an out-of-memory kill was counted in its cgroup: on this
   * node, or where the service counts. systemd takes the cgroup away when the last process has ended, at times before the
   * service has looked into it: then the slice tells, which on v2 counts what is below it, and not who was killed.
   */
  async wasKilled(
    record: TaskRecord,
    exit: ExitStatus,
    metrics: () => Promise<CgroupMetrics | null>,
  ): Promise<boolean> {
    if (exit.code !== KILLED) return false
    if (this.#told.get(record.id)) return true
    const kills = await oomKills(this.#mounts, taskCgroupDirectory(record))
    if (kills !== undefined) return kills > 0
    // A service that does not answer counts nothing.
    const counted = await metrics().catch(() => null)
    if (counted !== null && oomKillsIn(counted) > 0) return true
    const { sliceOomKills } = record
    return sliceOomKills !== undefined && (await this.inSlice(record)) > sliceOomKills
  }
}
