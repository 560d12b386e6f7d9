import type { CgroupReading, CpuReading, MemoryReading } from './cgroup-reading.ts'
import type { SandboxAnswer } from './collector.ts'
import type { Entry } from './readings.ts'
import type { ContainerSample, SandboxSample, SandboxTarget } from './types.ts'

/** What a pod uses, from what was read for it and for its containers. */
export function toSandboxSample(
  target: SandboxTarget,
  entry: Entry<SandboxAnswer> | undefined,
  containers: readonly ContainerSample[],
): SandboxSample {
  const { cgroup = null, network = null, isWholePod = false } = entry?.answer ?? {}
  if (isWholePod) {
    const { cpu = null, memory = null, io = null, processCount = null } = cgroup ?? {}
    const usageNanoCores = entry?.usageNanoCores ?? null
    return { target, cpu, usageNanoCores, memory, io, processCount, network, containers }
  }
  const parts = [cgroup, ...containers.map((container) => container.cgroup)]
  return {
    target,
    cpu: sumCpu(parts),
    usageNanoCores: sumKnown([entry?.usageNanoCores, ...containers.map((container) => container.usageNanoCores)]),
    memory: sumMemory(parts),
    io: null,
    processCount: sumKnown(parts.map((part) => part?.processCount)),
    network,
    containers,
  }
}

/** Pressure cannot be added. Null without any. */
function sumCpu(readings: readonly (CgroupReading | null)[]): CpuReading | null {
  return readings.reduce<CpuReading | null>((sum, reading) => {
    const cpu = reading?.cpu
    if (!cpu) return sum
    const later = sum && sum.monotonicNs > cpu.monotonicNs ? sum : cpu
    return { ...later, usageNs: (sum?.usageNs ?? 0) + cpu.usageNs, psi: null }
  }, null)
}

/** Nor can limits. */
function sumMemory(readings: readonly (CgroupReading | null)[]): MemoryReading | null {
  return readings.reduce<MemoryReading | null>((sum, reading) => {
    const memory = reading?.memory
    if (!memory) return sum
    return {
      atNs: sum && sum.atNs > memory.atNs ? sum.atNs : memory.atNs,
      usageBytes: (sum?.usageBytes ?? 0) + memory.usageBytes,
      workingSetBytes: (sum?.workingSetBytes ?? 0) + memory.workingSetBytes,
      limitBytes: null,
      rssBytes: (sum?.rssBytes ?? 0) + memory.rssBytes,
      pageFaults: (sum?.pageFaults ?? 0) + memory.pageFaults,
      majorPageFaults: (sum?.majorPageFaults ?? 0) + memory.majorPageFaults,
      swap: null,
      psi: null,
    }
  }, null)
}

/** The sum of what is known; null when nothing is. */
function sumKnown(numbers: readonly (number | null | undefined)[]): number | null {
  const known = numbers.filter((number) => typeof number === 'number')
  return known.length === 0 ? null : known.reduce((sum, number) => sum + number)
}
