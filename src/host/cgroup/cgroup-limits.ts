import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from '../../core/errors.ts'
import { readCgroupMode } from './cgroup-mode.ts'
import { cgroupMounts } from './cgroup.ts'

/** What the cgroup controllers of this node can limit, beside CPU time and memory. */
export interface CgroupLimits {
  /** As in the kernel's file names (`2MB`); empty without a hugetlb controller. */
  readonly hugepageSizes: readonly string[]
  /** Whether swap is accounted: `memory.memsw.*` on v1, `memory.swap.max` on v2. */
  readonly hasSwapAccounting: boolean
}

/** Reads it. A few small files of /sys and /proc, once at start, hence synchronous. */
export function readCgroupLimits(): CgroupLimits {
  const mounts = cgroupMounts()
  const own = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .map((line) => line.split(':').slice(2).join(':'))
  const files = mounts
    .flatMap((mount) => placesIn(mount, own))
    .filter((directory) => existsSync(directory))
    .flatMap((d) => entries(d, false))
  const hasFile = (pattern: RegExp): boolean => files.some((name) => pattern.test(name))
  // On v2 the runtimes enable what is on offer on the way to a container; systemd knows nothing of huge pages.
  const isOffered = readCgroupMode() === 'v2' && mounts.some((mount) => controllers(mount).includes('hugetlb'))
  const hasHugetlb = isOffered || hasFile(/^hugetlb\./)
  return {
    hugepageSizes: hasHugetlb ? hugepageSizes() : [],
    hasSwapAccounting: hasFile(/^memory\.(?:memsw\.limit_in_bytes|swap\.max)$/),
  }
}

/** The root of a v2 hierarchy has no limits: a cgroup below it tells. */
function placesIn(mount: string, own: readonly string[]): string[] {
  const children = entries(mount, true)
  return [mount, ...own.map((path) => join(mount, path)), ...children.slice(0, 1).map((name) => join(mount, name))]
}

function controllers(mount: string): string[] {
  return readFileSync(join(mount, 'cgroup.controllers'), 'utf8').trim().split(' ')
}

function entries(directory: string, onlyDirectories: boolean): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => !onlyDirectories || entry.isDirectory())
    .map(({ name }) => name)
}

/** `hugepages-2048kB` is `2MB` in the names of the controller's files. */
function hugepageSizes(): string[] {
  try {
    return readdirSync('/sys/kernel/mm/hugepages').flatMap((name) => {
      const kib = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1])
      if (Number.isNaN(kib)) return []
      if (kib >= 1024 * 1024) return [`${kib / (1024 * 1024)}GB`]
      return [kib >= 1024 ? `${kib / 1024}MB` : `${kib}KB`]
    })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
