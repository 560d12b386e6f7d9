import { CodedError, invalidField } from '../core/errors.ts'
import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import { int64, uint64 } from './int64.ts'
import type { CpuResources, HugepageLimit, MemoryResources, Resources } from './spec.ts'

export interface ResourceOptions {
  /** The path of the message in its request, for errors: `config.linux.resources`. */
  readonly field: string
  /** `cpu.shares` when the caller gives none. */
  readonly defaultCpuShares?: bigint
  readonly cgroupV2: boolean
}

const CPU_LIST = /^[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*$/
/** What the kernel takes (sched-bwc.rst), in microseconds. */
const MIN_CPU_US = 1000n
const MAX_PERIOD_US = 1_000_000n
const PAGE_SIZE = /^[1-9][0-9]*[KMG]B$/
/** Controller files only: `cgroup.procs`, `cgroup.kill` and the like move or kill processes and limit nothing. */
const UNIFIED_KEY = /^(?:cpu|cpuset|memory|io|pids|hugetlb|rdma|misc)\.[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*$/

/**
 * The cgroup limits of a container, without device rules. 0 and `''` mean "not given", as everywhere in the CRI.
 * `oom_score_adj` is not among them: it belongs to the process.
 *
 * @throws CodedError `InvalidArgument` naming the field, or `FailedPrecondition` for `unified` on cgroup v1.
 */
export function linuxResources(given: LinuxContainerResources__Output | null, options: ResourceOptions): Resources {
  const { field, defaultCpuShares } = options
  if (given === null) return defaultCpuShares === undefined ? {} : { cpu: { shares: defaultCpuShares } }
  const cpu = cpuResources(given, field, defaultCpuShares)
  const memory = memoryResources(given, field)
  const hugepageLimits = given.hugepage_limits.map((limit, at) =>
    hugepageLimit(limit.page_size, limit.limit, `${field}.hugepage_limits[${at}]`),
  )
  const unified = unifiedFiles(given.unified, options)
  return {
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(hugepageLimits.length > 0 ? { hugepageLimits } : {}),
    ...(Object.keys(unified).length > 0 ? { unified } : {}),
  }
}

function cpuResources(
  given: LinuxContainerResources__Output,
  field: string,
  defaultCpuShares: bigint | undefined,
): CpuResources {
  const shares = int64(`${field}.cpu_shares`, given.cpu_shares, 0n) || defaultCpuShares
  const quota = int64(`${field}.cpu_quota`, given.cpu_quota, -1n)
  const period = int64(`${field}.cpu_period`, given.cpu_period, 0n)
  if (quota > 0n && quota < MIN_CPU_US)
    throw invalidField(`${field}.cpu_quota`, `must be -1, or at least ${MIN_CPU_US}`)
  if (period !== 0n && (period < MIN_CPU_US || period > MAX_PERIOD_US)) {
    throw invalidField(`${field}.cpu_period`, `must be between ${MIN_CPU_US} and ${MAX_PERIOD_US}`)
  }
  return {
    ...(shares === undefined ? {} : { shares }),
    ...(quota === 0n ? {} : { quota }),
    ...(period === 0n ? {} : { period }),
    ...(given.cpuset_cpus === '' ? {} : { cpus: cpuList(`${field}.cpuset_cpus`, given.cpuset_cpus) }),
    ...(given.cpuset_mems === '' ? {} : { mems: cpuList(`${field}.cpuset_mems`, given.cpuset_mems) }),
  }
}

function memoryResources(given: LinuxContainerResources__Output, field: string): MemoryResources {
  const limit = int64(`${field}.memory_limit_in_bytes`, given.memory_limit_in_bytes, -1n)
  const swapField = `${field}.memory_swap_limit_in_bytes`
  const swap = int64(swapField, given.memory_swap_limit_in_bytes, -1n)
  if (swap > 0n && limit <= 0n) throw invalidField(swapField, 'needs memory_limit_in_bytes')
  if (swap > 0n && swap < limit) throw invalidField(swapField, 'is below memory_limit_in_bytes, which it includes')
  return {
    ...(limit === 0n ? {} : { limit }),
    ...(swap === 0n ? {} : { swap }),
  }
}

function hugepageLimit(pageSize: string, digits: string, field: string): HugepageLimit {
  if (!PAGE_SIZE.test(pageSize)) throw invalidField(`${field}.page_size`, `not like 2MB: ${JSON.stringify(pageSize)}`)
  return { pageSize, limit: uint64(`${field}.limit`, digits) }
}

function unifiedFiles(given: Readonly<Record<string, string>>, options: ResourceOptions): Record<string, string> {
  const entries = Object.entries(given)
  if (entries.length > 0 && !options.cgroupV2) {
    throw new CodedError('FailedPrecondition', `${options.field}.unified: needs cgroup v2, and this node has v1`)
  }
  for (const [key, value] of entries) {
    const field = `${options.field}.unified[${JSON.stringify(key)}]`
    if (!UNIFIED_KEY.test(key)) throw invalidField(field, 'not the name of a controller file')
    if (!/^[\x20-\x7e]{1,4096}$/.test(value)) throw invalidField(field, 'its value must be printable text on one line')
  }
  return Object.fromEntries(entries)
}

function cpuList(field: string, list: string): string {
  if (list.length > 4096 || !CPU_LIST.test(list))
    throw invalidField(field, `not a list like 0-3,5: ${JSON.stringify(list.slice(0, 80))}`)
  return list
}
