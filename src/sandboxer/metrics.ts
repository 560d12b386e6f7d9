import { CodedError } from '../core/errors.ts'
import type { Any } from '../generated/google/protobuf/Any.ts'
import type { Metrics as MetricsV1 } from '../generated/io/containerd/cgroups/v1/Metrics.ts'
import type { Metrics as MetricsV2 } from '../generated/io/containerd/cgroups/v2/Metrics.ts'
import type { CgroupReading, MemoryReading } from '../stats/cgroup-reading.ts'
import type { InterfaceReading } from '../stats/net-dev.ts'

/** The metrics of containerd's cgroups library on the wire. */
export interface MetricsCodec {
  readonly v1: (metrics: MetricsV1) => Buffer
  readonly v2: (metrics: MetricsV2) => Buffer
}

/** What was measured of a sandbox. */
export interface SandboxReading {
  readonly cgroup: CgroupReading
  readonly interfaces: readonly InterfaceReading[]
}

/** How a limit is written that there is none of. */
const UNLIMITED = '18446744073709551615'
const UNLIMITED_V1 = '9223372036854771712'

/** What a sandbox uses, in the form that fits the node's cgroups. What the kernel does not tell is left out. */
export function toMetrics(reading: SandboxReading, isCgroupV2: boolean, codec: MetricsCodec): Any {
  return isCgroupV2
    ? { type_url: 'io.containerd.cgroups.v2.Metrics', value: codec.v2(metricsV2(reading)) }
    : { type_url: 'io.containerd.cgroups.v1.Metrics', value: codec.v1(metricsV1(reading)) }
}

function metricsV1({ cgroup, interfaces }: SandboxReading): MetricsV1 {
  const { cpu, memory, detail } = cgroup
  return {
    ...(cpu
      ? {
          cpu: {
            usage: {
              total: whole(cpu.usageNs),
              kernel: whole(detail?.cpu?.systemNs ?? 0),
              user: whole(detail?.cpu?.userNs ?? 0),
            },
            throttling: {
              periods: whole(detail?.cpu?.periods ?? 0),
              throttled_periods: whole(detail?.cpu?.throttledPeriods ?? 0),
              throttled_time: whole(detail?.cpu?.throttledNs ?? 0),
            },
          },
        }
      : {}),
    ...(memory ? { memory: memoryV1(memory, cgroup) } : {}),
    ...pids(cgroup),
    memory_oom_control: { oom_kill: whole(detail?.memory?.oomKills ?? 0) },
    hugetlb: (detail?.hugePages ?? []).map(({ pageSize, usageBytes, maxUsageBytes }) => ({
      pagesize: pageSize,
      usage: whole(usageBytes),
      max: whole(maxUsageBytes ?? 0),
    })),
    network: interfaces.map(network),
  }
}

function memoryV1(memory: MemoryReading, { detail }: CgroupReading): NonNullable<MetricsV1['memory']> {
  const more = detail?.memory
  const limit = memory.limitBytes === null ? UNLIMITED_V1 : whole(memory.limitBytes)
  const inactiveFile = whole(Math.max(0, memory.usageBytes - memory.workingSetBytes))
  return {
    usage: {
      usage: whole(memory.usageBytes),
      limit,
      max: whole(more?.maxUsageBytes ?? 0),
      failcnt: whole(more?.failures ?? 0),
    },
    hierarchical_memory_limit: limit,
    rss: whole(memory.rssBytes),
    total_rss: whole(memory.rssBytes),
    total_inactive_file: inactiveFile,
    total_pg_fault: whole(memory.pageFaults),
    total_pg_maj_fault: whole(memory.majorPageFaults),
    ...(memory.swap ? { swap: { usage: whole(memory.swap.usageBytes) } } : {}),
    ...(more
      ? {
          total_cache: whole(more.cacheBytes),
          total_mapped_file: whole(more.mappedFileBytes),
          total_active_file: whole(more.activeFileBytes),
          kernel: { usage: whole(more.kernelBytes) },
        }
      : {}),
  }
}

function metricsV2({ cgroup, interfaces }: SandboxReading): MetricsV2 {
  const { cpu, memory, detail } = cgroup
  return {
    ...(cpu
      ? {
          cpu: {
            usage_usec: micros(cpu.usageNs),
            user_usec: micros(detail?.cpu?.userNs ?? 0),
            system_usec: micros(detail?.cpu?.systemNs ?? 0),
            nr_periods: whole(detail?.cpu?.periods ?? 0),
            nr_throttled: whole(detail?.cpu?.throttledPeriods ?? 0),
            throttled_usec: micros(detail?.cpu?.throttledNs ?? 0),
          },
        }
      : {}),
    ...(memory ? { memory: memoryV2(memory, cgroup) } : {}),
    ...pids(cgroup),
    memory_events: {
      oom_kill: whole(detail?.memory?.oomKills ?? 0),
      max: whole(detail?.memory?.failures ?? 0),
    },
    io: {
      usage: (detail?.io ?? []).map((device) => ({
        major: device.major,
        minor: device.minor,
        rbytes: whole(device.readBytes),
        wbytes: whole(device.writeBytes),
        rios: whole(device.reads),
        wios: whole(device.writes),
      })),
    },
    hugetlb: (detail?.hugePages ?? []).map(({ pageSize, usageBytes }) => ({
      pagesize: pageSize,
      current: whole(usageBytes),
    })),
    network: interfaces.map(network),
  }
}

function memoryV2(memory: MemoryReading, { detail }: CgroupReading): NonNullable<MetricsV2['memory']> {
  const more = detail?.memory
  const { swap } = memory
  return {
    usage: whole(memory.usageBytes),
    usage_limit: memory.limitBytes === null ? UNLIMITED : whole(memory.limitBytes),
    max_usage: whole(more?.maxUsageBytes ?? 0),
    anon: whole(memory.rssBytes),
    inactive_file: whole(Math.max(0, memory.usageBytes - memory.workingSetBytes)),
    pgfault: whole(memory.pageFaults),
    pgmajfault: whole(memory.majorPageFaults),
    ...(swap
      ? {
          swap_usage: whole(swap.usageBytes),
          swap_limit: swap.limitBytes === null ? UNLIMITED : whole(swap.limitBytes),
        }
      : {}),
    ...(more
      ? {
          file: whole(more.cacheBytes),
          file_mapped: whole(more.mappedFileBytes),
          active_file: whole(more.activeFileBytes),
          kernel_stack: whole(more.kernelBytes),
        }
      : {}),
  }
}

function pids({ processCount, detail }: CgroupReading): Pick<MetricsV1, 'pids'> {
  const current = detail?.processes.threads ?? processCount
  if (current === null) return {}
  return { pids: { current: whole(current), limit: whole(detail?.processes.threadsMax ?? 0) } }
}

function network(one: InterfaceReading): NonNullable<MetricsV1['network']>[number] {
  return {
    name: one.name,
    rx_bytes: whole(one.rxBytes),
    rx_packets: whole(one.rxPackets),
    rx_errors: whole(one.rxErrors),
    rx_dropped: whole(one.rxDropped),
    tx_bytes: whole(one.txBytes),
    tx_packets: whole(one.txPackets),
    tx_errors: whole(one.txErrors),
    tx_dropped: whole(one.txDropped),
  }
}

function micros(ns: number): string {
  return whole(ns / 1000)
}

/** As protobuf takes integers of 64 bits without loss. */
function whole(value: number): string {
  if (!Number.isFinite(value) || value < 0) throw new CodedError('Internal', `encode metrics: ${value} is no counter`)
  return BigInt(Math.trunc(value)).toString()
}
