import { statfsSync } from 'node:fs'
import { errnoOf } from '../../core/errors.ts'

/** `v1`: only v1 hierarchies; `hybrid`: v1 with a v2 one beside them; `v2`: one v2 hierarchy. */
export type CgroupMode = 'v1' | 'hybrid' | 'v2'

/** CGROUP2_SUPER_MAGIC of linux/magic.h. */
const CGROUP2_MAGIC = 0x63677270

/** Which cgroup hierarchy is mounted. Reads the mount's type once, which does not wait for anything. */
export function readCgroupMode(root = '/sys/fs/cgroup'): CgroupMode {
  if (statfsSync(root).type === CGROUP2_MAGIC) return 'v2'
  return isCgroup2(`${root}/unified`) ? 'hybrid' : 'v1'
}

function isCgroup2(path: string): boolean {
  try {
    return statfsSync(path).type === CGROUP2_MAGIC
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
