// What is read of one cgroup. Counters are numbers: above 2^53 they lose some nanoseconds, which nobody can tell.

/** One line of a pressure file. */
export interface Pressure {
  readonly totalNs: number
  /** Per cent of the last 10, 60 and 300 seconds. */
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
}

/** Pressure stall information: time in which some tasks, and in which all of them, waited for a resource. */
export interface Psi {
  readonly some: Pressure | null
  readonly full: Pressure | null
}

export interface CpuReading {
  /** When this was read: nanoseconds since the epoch. */
  readonly atNs: bigint
  /** The same moment on a clock that nobody sets. */
  readonly monotonicNs: number
  /** Over all cores, since the cgroup was made. */
  readonly usageNs: number
  readonly psi: Psi | null
}

export interface SwapReading {
  readonly usageBytes: number
  /** Null when unlimited. */
  readonly limitBytes: number | null
}

export interface MemoryReading {
  readonly atNs: bigint
  readonly usageBytes: number
  /** Usage without the page cache that the kernel would drop first. */
  readonly workingSetBytes: number
  /** Null when unlimited. */
  readonly limitBytes: number | null
  readonly rssBytes: number
  readonly pageFaults: number
  readonly majorPageFaults: number
  readonly swap: SwapReading | null
  readonly psi: Psi | null
}

export interface IoReading {
  readonly atNs: bigint
  readonly psi: Psi
}

/** A cgroup with all below it. What the kernel does not tell is null. */
export interface CgroupReading {
  readonly cpu: CpuReading | null
  readonly memory: MemoryReading | null
  readonly io: IoReading | null
  readonly processCount: number | null
  /** Only when it was asked for. */
  readonly detail: CgroupDetail | null
}

/** What only metrics tell. */
export interface CgroupDetail {
  readonly cpu: CpuDetail | null
  readonly memory: MemoryDetail | null
  readonly io: readonly DeviceDetail[]
  readonly hugePages: readonly HugePagesDetail[]
  readonly processes: ProcessesDetail
}

export interface CpuDetail {
  readonly userNs: number
  readonly systemNs: number
  readonly periods: number
  readonly throttledPeriods: number
  readonly throttledNs: number
}

/** Page faults of the cgroup itself and with all below it. */
export interface Faults {
  readonly own: number
  readonly all: number
}

export interface MemoryDetail {
  readonly cacheBytes: number
  readonly kernelBytes: number
  readonly mappedFileBytes: number
  readonly activeFileBytes: number
  readonly inactiveFileBytes: number
  readonly maxUsageBytes: number | null
  /** How often usage hit the limit. */
  readonly failures: number
  readonly faults: Faults
  readonly majorFaults: Faults
  readonly oomKills: number | null
}

export interface DeviceDetail {
  readonly major: string
  readonly minor: string
  /** `/dev/sda`. */
  readonly device: string
  readonly readBytes: number
  readonly writeBytes: number
  readonly reads: number
  readonly writes: number
}

export interface HugePagesDetail {
  /** `2MB`. */
  readonly pageSize: string
  readonly usageBytes: number
  /** Null on v2. */
  readonly maxUsageBytes: number | null
}

export interface ProcessesDetail {
  readonly threads: number | null
  /** Null when unlimited, or unknown. */
  readonly threadsMax: number | null
  readonly fileDescriptors: number
  /** Null when there are too many descriptors to look at each. */
  readonly sockets: number | null
  /** Of the first process, as text because it may be `unlimited`; null when that is gone. */
  readonly openFilesLimit: string | null
}
