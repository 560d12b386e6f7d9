import { nowNs } from '../core/now.ts'
import { existsSync } from 'node:fs'
import type { CgroupReading, CpuReading, IoReading, MemoryReading, Psi, SwapReading } from './cgroup-reading.ts'
import { readDetail } from './cgroup-detail.ts'
import type { Hierarchies } from './hierarchies.ts'
import { listProcesses } from './processes.ts'
import { type SmallFiles, valueOf } from './small-files.ts'

/** Limits above this are none: the kernel rounds what stands for "unlimited" to its page size. */
const UNLIMITED_BYTES = 2 ** 62

/** What a reader needs to know of the machine. */
export interface Machine {
  readonly files: SmallFiles
  readonly hierarchies: Hierarchies
  /** The page sizes of hugetlb, as `2MB`. */
  readonly hugePageSizes: readonly string[]
  /** `/proc` and `/sys`, but for tests. */
  readonly proc: string
  readonly sys: string
}

export interface CgroupRequest {
  /** The directory below each hierarchy. */
  readonly cgroupPath: string
  /** The first process, where there is one; only for the detail. */
  readonly pid: number | null
  readonly detail: boolean
}

/** Reads a cgroup with all below it. Null when there is none of that name. */
export function readCgroup(machine: Machine, request: CgroupRequest): CgroupReading | null {
  const { cgroupPath } = request
  const pressureDir = pressureDirectory(machine, cgroupPath)
  const cpu = readCpu(machine, cgroupPath, pressureDir)
  const memory = readMemory(machine, cgroupPath, pressureDir)
  if (cpu === null && memory === null) return null
  const pids = listProcesses(machine, cgroupPath)
  return {
    cpu,
    memory,
    io: readIo(machine, pressureDir),
    processCount: pids?.length ?? null,
    detail: request.detail ? readDetail(machine, request, pids ?? []) : null,
  }
}

/**
 * Where the pressure files of a cgroup are. Beside v1 hierarchies there may be a cgroup of the same name in the v2 one
 * that the processes are not in: its zeros would not be theirs.
 */
function pressureDirectory({ files, hierarchies }: Machine, path: string): string | null {
  const { unified, memory } = hierarchies
  if (unified === null) return null
  const directory = `${unified}${path}`
  if (memory?.version === 2) return directory
  // A look is cheaper than an exception, and one of them for each container is the rule here.
  if (!existsSync(directory)) return null
  return valueOf(files.text(`${directory}/cgroup.events`) ?? '', 'populated') === 1 ? directory : null
}

function readCpu({ files, hierarchies }: Machine, path: string, pressureDir: string | null): CpuReading | null {
  const { cpuacct } = hierarchies
  if (cpuacct === null) return null
  const directory = `${cpuacct.mount}${path}`
  const usageNs =
    cpuacct.version === 1 ? files.number(`${directory}/cpuacct.usage`) : usageOf(files.text(`${directory}/cpu.stat`))
  if (usageNs === null) return null
  // A time for each reading: one for all would be wrong by as long as the reading of all takes.
  const time = { atNs: nowNs(), monotonicNs: Number(process.hrtime.bigint()) }
  return { ...time, usageNs, psi: readPsi(files, pressureDir, 'cpu') }
}

function usageOf(cpuStat: string | null): number | null {
  return cpuStat === null ? null : valueOf(cpuStat, 'usage_usec') * 1000
}

function readMemory({ files, hierarchies }: Machine, path: string, pressureDir: string | null): MemoryReading | null {
  const { memory } = hierarchies
  if (memory === null) return null
  const directory = `${memory.mount}${path}`
  const isV1 = memory.version === 1
  const usageBytes = files.number(`${directory}/memory.${isV1 ? 'usage_in_bytes' : 'current'}`)
  const stat = files.text(`${directory}/memory.stat`)
  if (usageBytes === null || stat === null) return null
  const atNs = nowNs()
  const limitBytes = limited(files.number(`${directory}/memory.${isV1 ? 'limit_in_bytes' : 'max'}`))
  const total = isV1 ? 'total_' : ''
  return {
    atNs,
    usageBytes,
    workingSetBytes: Math.max(0, usageBytes - valueOf(stat, `${total}inactive_file`)),
    limitBytes,
    rssBytes: valueOf(stat, isV1 ? 'total_rss' : 'anon'),
    pageFaults: valueOf(stat, `${total}pgfault`),
    majorPageFaults: valueOf(stat, `${total}pgmajfault`),
    swap: isV1 ? readSwapV1(files, directory, stat, limitBytes) : readSwap(files, directory),
    psi: readPsi(files, pressureDir, 'memory'),
  }
}

function readSwap(files: SmallFiles, directory: string): SwapReading | null {
  const usageBytes = files.number(`${directory}/memory.swap.current`)
  if (usageBytes === null) return null
  return { usageBytes, limitBytes: limited(files.number(`${directory}/memory.swap.max`)) }
}

/** The v1 limit is one on memory and swap together, and only there where swap is accounted. */
function readSwapV1(
  files: SmallFiles,
  directory: string,
  stat: string,
  memoryLimitBytes: number | null,
): SwapReading | null {
  const both = files.number(`${directory}/memory.memsw.limit_in_bytes`)
  if (both === null) return null
  const bothBytes = limited(both)
  const limitBytes = bothBytes === null || memoryLimitBytes === null ? null : Math.max(0, bothBytes - memoryLimitBytes)
  return { usageBytes: valueOf(stat, 'total_swap'), limitBytes }
}

function readIo({ files }: Machine, pressureDir: string | null): IoReading | null {
  const psi = readPsi(files, pressureDir, 'io')
  return psi && { atNs: nowNs(), psi }
}

function readPsi(files: SmallFiles, directory: string | null, resource: 'cpu' | 'memory' | 'io'): Psi | null {
  const text = directory === null ? null : files.text(`${directory}/${resource}.pressure`)
  return text === null ? null : parsePsi(text)
}

/** The text of a pressure file. */
function parsePsi(text: string): Psi {
  const lines = new Map<string, Psi['some']>()
  for (const line of text.split('\n')) {
    const [kind = '', ...fields] = line.split(' ')
    const [avg10 = 0, avg60 = 0, avg300 = 0, totalUs = 0] = fields.map((field) => Number(field.split('=')[1]))
    lines.set(kind, { totalNs: totalUs * 1000, avg10, avg60, avg300 })
  }
  return { some: lines.get('some') ?? null, full: lines.get('full') ?? null }
}

/** Null for what stands for no limit. */
export function limited(bytes: number | null): number | null {
  return bytes === null || bytes >= UNLIMITED_BYTES ? null : bytes
}
