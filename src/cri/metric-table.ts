import type { CgroupDetail, CgroupReading, Psi } from '../stats/cgroup-reading.ts'
import type { InterfaceReading } from '../stats/net-dev.ts'
import type { ContainerSample, LayerFileSystem } from '../stats/types.ts'

/** What the metrics of one container are made of. */
export interface ContainerFacts {
  readonly sample: ContainerSample
  readonly cgroup: CgroupReading
  readonly detail: CgroupDetail
  readonly fileSystem: LayerFileSystem | null
  /** When it was read: nanoseconds since the epoch. */
  readonly atNs: bigint
}

/** One metric: what it is called, and how it comes to its values. The names are those of cAdvisor. */
export interface MetricSource<Facts> {
  readonly name: string
  readonly help: string
  readonly type: 'COUNTER' | 'GAUGE'
  /** The keys of its labels beyond those that all have. */
  readonly labelKeys: readonly string[]
  readonly values: (facts: Facts) => readonly MetricValue[]
}

/** The values of the labels, in the order of their keys, and the value. */
export type MetricValue = readonly [labels: readonly string[], value: number | string]

type Optional = number | string | null | undefined
type OptionalValue = readonly [labels: readonly string[], value: Optional]
type Of = (facts: ContainerFacts) => Optional
type Each = (facts: ContainerFacts) => readonly OptionalValue[]

/** `RLIM_INFINITY` of getrlimit(2). */
const UNLIMITED = '18446744073709551615'

const NETWORK: readonly (readonly [name: string, help: string, key: Exclude<keyof InterfaceReading, 'name'>])[] = [
  ['receive_bytes', 'Bytes received.', 'rxBytes'],
  ['receive_packets', 'Packets received.', 'rxPackets'],
  ['receive_packets_dropped', 'Packets dropped while receiving.', 'rxDropped'],
  ['receive_errors', 'Errors while receiving.', 'rxErrors'],
  ['transmit_bytes', 'Bytes sent.', 'txBytes'],
  ['transmit_packets', 'Packets sent.', 'txPackets'],
  ['transmit_packets_dropped', 'Packets dropped while sending.', 'txDropped'],
  ['transmit_errors', 'Errors while sending.', 'txErrors'],
]

/** The metrics of a pod: of each interface. */
export const POD_METRICS: readonly MetricSource<readonly InterfaceReading[]>[] = NETWORK.map(([name, help, key]) => ({
  name: `container_network_${name}_total`,
  help,
  type: 'COUNTER',
  labelKeys: ['interface'],
  values: (interfaces) => interfaces.map((reading) => [[reading.name], reading[key]]),
}))

const CPU: readonly MetricSource<ContainerFacts>[] = [
  counters('container_cpu_usage_seconds_total', 'CPU time used.', ['cpu'], ({ cgroup }) => [
    [['total'], seconds(cgroup.cpu?.usageNs)],
  ]),
  counter('container_cpu_user_seconds_total', 'CPU time used in user mode.', ({ detail }) =>
    seconds(detail.cpu?.userNs),
  ),
  counter('container_cpu_system_seconds_total', 'CPU time used in kernel mode.', ({ detail }) =>
    seconds(detail.cpu?.systemNs),
  ),
  counter(
    'container_cpu_cfs_periods_total',
    'Periods in which the CPU quota held.',
    ({ detail }) => detail.cpu?.periods,
  ),
  counter('container_cpu_cfs_throttled_periods_total', 'Periods in which the CPU quota was used up.', ({ detail }) => {
    return detail.cpu?.throttledPeriods
  }),
  counter('container_cpu_cfs_throttled_seconds_total', 'Time spent throttled.', ({ detail }) =>
    seconds(detail.cpu?.throttledNs),
  ),
]

const MEMORY: readonly MetricSource<ContainerFacts>[] = [
  gauge('container_memory_usage_bytes', 'All memory in use.', ({ cgroup }) => cgroup.memory?.usageBytes),
  gauge('container_memory_working_set_bytes', 'Memory in use that cannot be dropped easily.', ({ cgroup }) => {
    return cgroup.memory?.workingSetBytes
  }),
  gauge(
    'container_memory_max_usage_bytes',
    'The most memory ever in use.',
    ({ detail }) => detail.memory?.maxUsageBytes,
  ),
  gauge('container_memory_rss', 'Bytes of anonymous memory.', ({ cgroup }) => cgroup.memory?.rssBytes),
  gauge('container_memory_cache', 'Bytes of page cache.', ({ detail }) => detail.memory?.cacheBytes),
  gauge('container_memory_kernel_usage', 'Bytes of kernel memory.', ({ detail }) => detail.memory?.kernelBytes),
  gauge('container_memory_mapped_file', 'Bytes of mapped files.', ({ detail }) => detail.memory?.mappedFileBytes),
  gauge('container_memory_total_active_file_bytes', 'Page cache used lately.', ({ detail }) => {
    return detail.memory?.activeFileBytes
  }),
  gauge('container_memory_total_inactive_file_bytes', 'Page cache not used lately.', ({ detail }) => {
    return detail.memory?.inactiveFileBytes
  }),
  gauge(
    'container_memory_swap',
    'Bytes of swap in use.',
    ({ cgroup: { memory } }) => memory && (memory.swap?.usageBytes ?? 0),
  ),
  counter('container_memory_failcnt', 'How often usage hit the limit.', ({ detail }) => detail.memory?.failures),
  counters('container_memory_failures_total', 'Page faults.', ['failure_type', 'scope'], ({ detail: { memory } }) => [
    [['pgfault', 'container'], memory?.faults.own],
    [['pgfault', 'hierarchy'], memory?.faults.all],
    [['pgmajfault', 'container'], memory?.majorFaults.own],
    [['pgmajfault', 'hierarchy'], memory?.majorFaults.all],
  ]),
  counter(
    'container_oom_events_total',
    'Processes killed for want of memory.',
    ({ detail }) => detail.memory?.oomKills,
  ),
  gauges('container_hugetlb_usage_bytes', 'Huge pages in use.', ['pagesize'], ({ detail }) =>
    detail.hugePages.map(({ pageSize, usageBytes }) => [[pageSize], usageBytes]),
  ),
  gauges('container_hugetlb_max_usage_bytes', 'The most huge pages ever in use.', ['pagesize'], ({ detail }) =>
    detail.hugePages.map(({ pageSize, maxUsageBytes }) => [[pageSize], maxUsageBytes]),
  ),
]

const DISK: readonly MetricSource<ContainerFacts>[] = [
  ofLayer('container_fs_usage_bytes', 'Bytes of the writable layer.', ({ sample }) => sample.writableLayer?.usedBytes),
  ofLayer('container_fs_limit_bytes', 'Bytes of the file system.', ({ fileSystem }) => fileSystem?.totalBytes),
  ofLayer('container_fs_inodes_total', 'Inodes of the file system.', ({ fileSystem }) => fileSystem?.totalInodes),
  ofLayer('container_fs_inodes_free', 'Free inodes of the file system.', ({ fileSystem }) => fileSystem?.freeInodes),
  ofDevice('container_fs_reads_bytes_total', 'Bytes read.', 'readBytes'),
  ofDevice('container_fs_reads_total', 'Reads completed.', 'reads'),
  ofDevice('container_fs_writes_bytes_total', 'Bytes written.', 'writeBytes'),
  ofDevice('container_fs_writes_total', 'Writes completed.', 'writes'),
  counters(
    'container_blkio_device_usage_total',
    'Bytes read and written.',
    ['device', 'major', 'minor', 'operation'],
    ({ detail }) =>
      detail.io.flatMap(({ device, major, minor, readBytes, writeBytes }) => [
        [[device, major, minor, 'Read'], readBytes],
        [[device, major, minor, 'Write'], writeBytes],
      ]),
  ),
]

const PROCESSES: readonly MetricSource<ContainerFacts>[] = [
  gauge('container_processes', 'Processes.', ({ cgroup }) => cgroup.processCount),
  gauge('container_threads', 'Threads.', ({ detail }) => detail.processes.threads),
  gauge('container_threads_max', 'Threads allowed; 0 is no limit.', ({ detail }) => detail.processes.threadsMax ?? 0),
  gauge('container_file_descriptors', 'Open file descriptors.', ({ detail }) => detail.processes.fileDescriptors),
  gauge('container_sockets', 'Open sockets.', ({ detail }) => detail.processes.sockets),
  gauges('container_ulimits_soft', 'Soft limits of the first process.', ['ulimit'], ({ detail }) => {
    const limit = detail.processes.openFilesLimit
    return [[['max_open_files'], limit === 'unlimited' ? UNLIMITED : limit]]
  }),
]

const PRESSURE: readonly MetricSource<ContainerFacts>[] = [
  ...ofPressure('cpu', ({ cgroup }) => cgroup.cpu?.psi),
  ...ofPressure('memory', ({ cgroup }) => cgroup.memory?.psi),
  ...ofPressure('io', ({ cgroup }) => cgroup.io?.psi),
]

const SPEC: readonly MetricSource<ContainerFacts>[] = [
  gauge('container_spec_cpu_period', 'The period of the CPU quota.', ({ sample }) => {
    return set(sample.target.resources?.cpu_period)
  }),
  gauge('container_spec_cpu_quota', 'The CPU quota.', ({ sample }) => set(sample.target.resources?.cpu_quota)),
  gauge('container_spec_cpu_shares', 'The share of CPU time.', ({ sample }) =>
    set(sample.target.resources?.cpu_shares),
  ),
  gauge('container_spec_memory_limit_bytes', 'The memory limit; 0 is none.', ({ sample }) => {
    return set(sample.target.resources?.memory_limit_in_bytes) ?? 0
  }),
  gauge('container_spec_memory_swap_limit_bytes', 'The limit on memory and swap; 0 is none.', ({ sample }) => {
    return set(sample.target.resources?.memory_swap_limit_in_bytes) ?? 0
  }),
  gauge('container_spec_memory_reservation_limit_bytes', 'The memory kept for it; 0 is none.', ({ sample }) => {
    return set(sample.target.resources?.unified['memory.min']) ?? 0
  }),
  gauge('container_start_time_seconds', 'When it was started, in seconds since the epoch.', ({ sample }) => {
    return (sample.target.startedAtNs / 1_000_000_000n).toString()
  }),
  gauge('container_last_seen', 'When it was measured, in seconds since the epoch.', ({ atNs }) => {
    return (atNs / 1_000_000_000n).toString()
  }),
]

/** The metrics of a container. */
export const CONTAINER_METRICS: readonly MetricSource<ContainerFacts>[] = [
  ...CPU,
  ...MEMORY,
  ...DISK,
  ...PROCESSES,
  ...PRESSURE,
  ...SPEC,
]

function gauge(name: string, help: string, value: Of): MetricSource<ContainerFacts> {
  return gauges(name, help, [], (facts) => [[[], value(facts)]])
}

function counter(name: string, help: string, value: Of): MetricSource<ContainerFacts> {
  return { ...gauge(name, help, value), type: 'COUNTER' }
}

function gauges(name: string, help: string, labelKeys: readonly string[], values: Each): MetricSource<ContainerFacts> {
  // What is not known is left out: a zero would be a value.
  const known = (facts: ContainerFacts) =>
    values(facts).filter((found): found is MetricValue => (found[1] ?? null) !== null)
  return { name, help, type: 'GAUGE', labelKeys, values: known }
}

function counters(
  name: string,
  help: string,
  labelKeys: readonly string[],
  values: Each,
): MetricSource<ContainerFacts> {
  return { ...gauges(name, help, labelKeys, values), type: 'COUNTER' }
}

function ofLayer(name: string, help: string, value: Of): MetricSource<ContainerFacts> {
  return gauges(name, help, ['device'], (facts) => [[[facts.fileSystem?.device ?? ''], value(facts)]])
}

function ofDevice(
  name: string,
  help: string,
  key: 'readBytes' | 'reads' | 'writeBytes' | 'writes',
): MetricSource<ContainerFacts> {
  return counters(name, help, ['device'], ({ detail }) => detail.io.map((io) => [[io.device], io[key]]))
}

function ofPressure(
  resource: 'cpu' | 'memory' | 'io',
  psi: (facts: ContainerFacts) => Psi | null | undefined,
): MetricSource<ContainerFacts>[] {
  return [
    counter(
      `container_pressure_${resource}_stalled_seconds_total`,
      `Time in which all waited for ${resource}.`,
      (facts) => {
        return seconds(psi(facts)?.full?.totalNs)
      },
    ),
    counter(
      `container_pressure_${resource}_waiting_seconds_total`,
      `Time in which some waited for ${resource}.`,
      (facts) => {
        return seconds(psi(facts)?.some?.totalNs)
      },
    ),
  ]
}

/** Whole seconds, because the values of the CRI are integers. */
function seconds(ns: number | null | undefined): number | null {
  return typeof ns !== 'number' ? null : Math.floor(ns / 1e9)
}

/** A limit of the CRI, where 0 and less stand for none. */
function set(limit: string | undefined): string | null {
  return limit !== undefined && /^[1-9]\d*$/.test(limit) ? limit : null
}
