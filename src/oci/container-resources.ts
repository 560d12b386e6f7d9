import { CodedError } from '../core/errors.ts'
import type { HugepageLimit__Output } from '../generated/runtime/v1/HugepageLimit.ts'
import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import type { NodeLimits } from './container-input.ts'
import { linuxResources } from './resources.ts'
import type { MemoryResources, Resources } from './spec.ts'

export interface ContainerResourceOptions {
  /** The path of the message in its request, for errors. */
  readonly field: string
  readonly cgroupMode: 'v1' | 'hybrid' | 'v2'
  readonly limits: NodeLimits
}

/**
 * The cgroup limits of a container as the runtimes take them, for its creation and (in force after
 * {@link mergeContainerResources}) for an update. Without device rules and without `oom_score_adj`.
 * A memory limit without one for swap allows no swap. What the node does not account is not limited: swap silently, as
 * with other runtimes, huge pages only where the limit is 0, which kubelets send for every size.
 *
 * @throws CodedError `InvalidArgument` naming the field, `FailedPrecondition` for what this node cannot limit.
 */
export function containerResources(
  given: LinuxContainerResources__Output | null,
  options: ContainerResourceOptions,
): Resources {
  if (given === null) return {}
  const { hugepageSizes, hasSwapAccounting } = options.limits
  const hugepages = given.hugepage_limits.filter((limit, at) => isLimited(limit, `hugepage_limits[${at}]`))
  const { memory, ...others } = linuxResources(
    { ...given, hugepage_limits: hugepages },
    { field: options.field, cgroupV2: options.cgroupMode === 'v2' },
  )
  return memory === undefined ? others : { ...others, memory: withSwap(memory, hasSwapAccounting) }

  function isLimited({ page_size: size, limit }: HugepageLimit__Output, key: string): boolean {
    if (hugepageSizes.includes(size)) return true
    if (limit === '0') return false
    const sizes = hugepageSizes.join(', ') || 'none'
    throw new CodedError(
      'FailedPrecondition',
      `${options.field}.${key}: this node does not limit huge pages of ${JSON.stringify(size)}, only of ${sizes}`,
    )
  }
}

function withSwap(memory: MemoryResources, hasSwapAccounting: boolean): MemoryResources {
  const { swap = memory.limit, ...limit } = memory
  return swap === undefined || !hasSwapAccounting ? limit : { ...limit, swap }
}

/**
 * The resources in force after an update: what `change` gives replaces what was, 0 and `''` leave it, page sizes and
 * files of `unified` one by one.
 */
export function mergeContainerResources(
  current: LinuxContainerResources__Output | null,
  change: LinuxContainerResources__Output,
): LinuxContainerResources__Output {
  if (current === null) return change
  const sizes = new Map(
    [...current.hugepage_limits, ...change.hugepage_limits].map((limit) => [limit.page_size, limit]),
  )
  // A new limit without a word on swap: the old one, which may be lower now, said nothing about this one.
  const keepsSwap = change.memory_limit_in_bytes === '0'
  return {
    cpu_period: nonZero(change.cpu_period, current.cpu_period),
    cpu_quota: nonZero(change.cpu_quota, current.cpu_quota),
    cpu_shares: nonZero(change.cpu_shares, current.cpu_shares),
    memory_limit_in_bytes: nonZero(change.memory_limit_in_bytes, current.memory_limit_in_bytes),
    oom_score_adj: nonZero(change.oom_score_adj, current.oom_score_adj),
    cpuset_cpus: change.cpuset_cpus || current.cpuset_cpus,
    cpuset_mems: change.cpuset_mems || current.cpuset_mems,
    hugepage_limits: [...sizes.values()],
    unified: { ...current.unified, ...change.unified },
    memory_swap_limit_in_bytes: keepsSwap
      ? nonZero(change.memory_swap_limit_in_bytes, current.memory_swap_limit_in_bytes)
      : change.memory_swap_limit_in_bytes,
  }
}

function nonZero(change: string, current: string): string {
  return change === '0' ? current : change
}
