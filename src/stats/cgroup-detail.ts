import { readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { CgroupRequest, Machine } from './cgroup-reader.ts'
import type { CgroupDetail, CpuDetail, DeviceDetail, HugePagesDetail, MemoryDetail } from './cgroup-reading.ts'
import type { Controller } from './hierarchies.ts'
import { readProcesses } from './processes.ts'
import { isAbsence, type SmallFiles, valueOf } from './small-files.ts'

/** The unit of `cpuacct.stat`: USER_HZ, 100 on every architecture that runs containers. */
const NS_PER_TICK = 10_000_000

/** Reads what only metrics tell of a cgroup that is there. */
export function readDetail(machine: Machine, request: CgroupRequest, pids: readonly string[]): CgroupDetail {
  const { cgroupPath } = request
  return {
    cpu: readCpu(machine, cgroupPath),
    memory: readMemory(machine, cgroupPath),
    io: readDevices(machine, cgroupPath),
    hugePages: readHugePages(machine, cgroupPath),
    processes: readProcesses(machine, request, pids),
  }
}

function readCpu({ files, hierarchies }: Machine, path: string): CpuDetail | null {
  const { cpu, cpuacct } = hierarchies
  const times = cpuacct && readTimes(files, cpuacct, path)
  const stat = cpu === null ? null : files.text(`${cpu.mount}${path}/cpu.stat`)
  if (cpu === null || !times || stat === null) return null
  return {
    ...times,
    periods: valueOf(stat, 'nr_periods'),
    throttledPeriods: valueOf(stat, 'nr_throttled'),
    throttledNs: cpu.version === 1 ? valueOf(stat, 'throttled_time') : valueOf(stat, 'throttled_usec') * 1000,
  }
}

function readTimes(
  files: SmallFiles,
  { version, mount }: Controller,
  path: string,
): Pick<CpuDetail, 'userNs' | 'systemNs'> | null {
  const stat = files.text(`${mount}${path}/${version === 1 ? 'cpuacct.stat' : 'cpu.stat'}`)
  if (stat === null) return null
  return version === 1
    ? { userNs: valueOf(stat, 'user') * NS_PER_TICK, systemNs: valueOf(stat, 'system') * NS_PER_TICK }
    : { userNs: valueOf(stat, 'user_usec') * 1000, systemNs: valueOf(stat, 'system_usec') * 1000 }
}

function readMemory({ files, hierarchies }: Machine, path: string): MemoryDetail | null {
  const { memory } = hierarchies
  if (memory === null) return null
  const directory = `${memory.mount}${path}`
  const stat = files.text(`${directory}/memory.stat`)
  if (stat === null) return null
  return memory.version === 1 ? memoryV1(files, directory, stat) : memoryV2(files, directory, stat)
}

function memoryV1(files: SmallFiles, directory: string, stat: string): MemoryDetail {
  const faultsOf = (key: string) => ({ own: valueOf(stat, key), all: valueOf(stat, `total_${key}`) })
  const oomControl = files.text(`${directory}/memory.oom_control`)
  return {
    cacheBytes: valueOf(stat, 'total_cache'),
    kernelBytes: files.number(`${directory}/memory.kmem.usage_in_bytes`) ?? 0,
    mappedFileBytes: valueOf(stat, 'total_mapped_file'),
    activeFileBytes: valueOf(stat, 'total_active_file'),
    inactiveFileBytes: valueOf(stat, 'total_inactive_file'),
    maxUsageBytes: files.number(`${directory}/memory.max_usage_in_bytes`),
    failures: files.number(`${directory}/memory.failcnt`) ?? 0,
    faults: faultsOf('pgfault'),
    majorFaults: faultsOf('pgmajfault'),
    oomKills: oomControl === null ? null : valueOf(oomControl, 'oom_kill'),
  }
}

function memoryV2(files: SmallFiles, directory: string, stat: string): MemoryDetail {
  // v2 counts for the cgroup with all below it, and a container's processes are usually in one.
  const faultsOf = (key: string) => ({ own: valueOf(stat, key), all: valueOf(stat, key) })
  const events = files.text(`${directory}/memory.events`)
  return {
    cacheBytes: valueOf(stat, 'file'),
    // One number since Linux 5.18; before, its parts.
    kernelBytes: valueOf(stat, 'kernel') || valueOf(stat, 'kernel_stack') + valueOf(stat, 'slab'),
    mappedFileBytes: valueOf(stat, 'file_mapped'),
    activeFileBytes: valueOf(stat, 'active_file'),
    inactiveFileBytes: valueOf(stat, 'inactive_file'),
    maxUsageBytes: files.number(`${directory}/memory.peak`),
    failures: events === null ? 0 : valueOf(events, 'max'),
    faults: faultsOf('pgfault'),
    majorFaults: faultsOf('pgmajfault'),
    oomKills: events === null ? null : valueOf(events, 'oom_kill'),
  }
}

function readDevices(machine: Machine, path: string): DeviceDetail[] {
  const { files, hierarchies } = machine
  if (hierarchies.blkio === null) return []
  const directory = `${hierarchies.blkio.mount}${path}`
  if (hierarchies.blkio.version === 2) return parseIoStat(machine, files.text(`${directory}/io.stat`) ?? '')
  const read = (name: string) => files.text(`${directory}/blkio.throttle.${name}_recursive`) ?? ''
  return parseThrottle(machine, read('io_service_bytes'), read('io_serviced'))
}

/** Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`. */
function parseIoStat(machine: Machine, text: string): DeviceDetail[] {
  return text.split('\n').flatMap((line) => {
    const [number = '', ...fields] = line.split(' ')
    const values = new Map(fields.map((field) => field.split('=') as [string, string | undefined]))
    const value = (key: string) => Number(values.get(key) ?? 0)
    if (!/^\d+:\d+$/.test(number) || !values.has('rbytes')) return []
    const counts = { readBytes: value('rbytes'), writeBytes: value('wbytes'), reads: value('rios') }
    return [{ ...deviceOf(machine, number), ...counts, writes: value('wios') }]
  })
}

/** Two files with lines of `8:0 Read 1`. */
function parseThrottle(machine: Machine, bytes: string, operations: string): DeviceDetail[] {
  const byDevice = (text: string) => {
    const found = new Map<string, Map<string, number>>()
    for (const [, number = '', operation = '', value] of text.matchAll(/^(\d+:\d+) (\w+) (\d+)$/gm)) {
      const values = found.get(number) ?? new Map<string, number>()
      found.set(number, values.set(operation, Number(value)))
    }
    return found
  }
  const counts = byDevice(operations)
  return [...byDevice(bytes)].map(([number, values]) => ({
    ...deviceOf(machine, number),
    readBytes: values.get('Read') ?? 0,
    writeBytes: values.get('Write') ?? 0,
    reads: counts.get(number)?.get('Read') ?? 0,
    writes: counts.get(number)?.get('Write') ?? 0,
  }))
}

function deviceOf({ sys }: Machine, number: string): Pick<DeviceDetail, 'major' | 'minor' | 'device'> {
  const [major = '', minor = ''] = number.split(':')
  try {
    return { major, minor, device: `/dev/${basename(readlinkSync(`${sys}/dev/block/${number}`))}` }
  } catch (error) {
    // Numbers of a device that was taken away stay in the cgroup.
    if (isAbsence(error)) return { major, minor, device: number }
    throw error
  }
}

function readHugePages({ files, hierarchies, hugePageSizes }: Machine, path: string): HugePagesDetail[] {
  const { hugetlb } = hierarchies
  if (hugetlb === null) return []
  return hugePageSizes.flatMap((pageSize) => {
    const prefix = `${hugetlb.mount}${path}/hugetlb.${pageSize}`
    const usageBytes = files.number(`${prefix}.${hugetlb.version === 1 ? 'usage_in_bytes' : 'current'}`)
    if (usageBytes === null) return []
    const maxUsageBytes = hugetlb.version === 1 ? files.number(`${prefix}.max_usage_in_bytes`) : null
    return [{ pageSize, usageBytes, maxUsageBytes }]
  })
}
