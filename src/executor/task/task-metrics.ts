import { CodedError } from '../../core/errors.ts'
import type { Any__Output } from '../../generated/google/protobuf/Any.ts'
import type { Metrics__Output as MetricsV1 } from '../../generated/io/containerd/cgroups/v1/Metrics.ts'
import type { Metrics__Output as MetricsV2 } from '../../generated/io/containerd/cgroups/v2/Metrics.ts'
import type { loadShimApi } from '../../grpc/load.ts'

/** What a cgroup counts, as containerd's shims tell it. */
export type CgroupMetrics =
  | { readonly version: 'v1'; readonly metrics: MetricsV1 }
  | { readonly version: 'v2'; readonly metrics: MetricsV2 }

/**
 * Reads what Stats has answered; null when that says nothing.
 * @throws CodedError `Unimplemented` for what is none of both.
 */
export function readMetrics(
  stats: Pick<Any__Output, 'type_url' | 'value'> | null,
  { io }: Pick<ReturnType<typeof loadShimApi>, 'io'>,
): CgroupMetrics | null {
  if (!stats || stats.type_url === '') return null
  const { v1, v2 } = io.containerd.cgroups
  // Some write it with a prefix.
  switch (stats.type_url.split('/').at(-1)) {
    case 'io.containerd.cgroups.v1.Metrics':
      return { version: 'v1', metrics: v1.Metrics.deserialize(stats.value) }
    case 'io.containerd.cgroups.v2.Metrics':
      return { version: 'v2', metrics: v2.Metrics.deserialize(stats.value) }
    default:
      throw new CodedError('Unimplemented', `read metrics: they are of type ${JSON.stringify(stats.type_url)}`)
  }
}

/** How many processes the kernel has killed for want of memory. */
export function oomKillsIn(metrics: CgroupMetrics): number {
  const count =
    metrics.version === 'v1' ? metrics.metrics.memory_oom_control?.oom_kill : metrics.metrics.memory_events?.oom_kill
  return Number(count ?? 0)
}
