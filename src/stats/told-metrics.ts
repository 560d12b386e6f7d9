import { nowNs } from '../core/now.ts'
import type { MemoryStat__Output as MemoryV1 } from '../generated/io/containerd/cgroups/v1/MemoryStat.ts'
import type { MemoryStat__Output as MemoryV2 } from '../generated/io/containerd/cgroups/v2/MemoryStat.ts'
import type { PSIStats__Output } from '../generated/io/containerd/cgroups/v2/PSIStats.ts'
import type { ProtoGrpcType as ShimPackages } from '../generated/shim.ts'
import type { CgroupReading, MemoryReading, Pressure, Psi } from './cgroup-reading.ts'
import { limited } from './cgroup-reader.ts'

/** A message with its type, as others tell what they have measured. */
export interface ToldMetrics {
  readonly typeUrl: string
  readonly value: Uint8Array
}

/**
 * What somebody else has read of a cgroup that is not on this node, as `io.containerd.cgroups.v1.Metrics` or `v2`. What they
 * do not tell is null; so is all of it in another message.
 */
export function toldReading({ typeUrl, value }: ToldMetrics, { io }: ShimPackages): CgroupReading | null {
  const { v1, v2 } = io.containerd.cgroups
  const time = { atNs: nowNs(), monotonicNs: Number(process.hrtime.bigint()) }
  switch (typeUrl.slice(typeUrl.lastIndexOf('/') + 1)) {
    case 'io.containerd.cgroups.v1.Metrics': {
      const { cpu, memory, pids } = v1.Metrics.deserialize(Buffer.from(value))
      return {
        cpu: cpu?.usage ? { ...time, usageNs: Number(cpu.usage.total), psi: null } : null,
        memory: memory?.usage ? memoryV1(memory, Number(memory.usage.usage), Number(memory.usage.limit)) : null,
        io: null,
        processCount: pids ? Number(pids.current) : null,
        detail: null,
      }
    }
    case 'io.containerd.cgroups.v2.Metrics': {
      const { cpu, memory, pids, io: disks } = v2.Metrics.deserialize(Buffer.from(value))
      const psi = psiOf(disks?.psi)
      return {
        cpu: cpu ? { ...time, usageNs: Number(cpu.usage_usec) * 1000, psi: psiOf(cpu.psi) } : null,
        memory: memory ? memoryV2(memory) : null,
        io: psi && { atNs: time.atNs, psi },
        processCount: pids ? Number(pids.current) : null,
        detail: null,
      }
    }
    default:
      return null
  }
}

function memoryV1(memory: MemoryV1, usageBytes: number, limit: number): MemoryReading {
  return {
    atNs: nowNs(),
    usageBytes,
    workingSetBytes: Math.max(0, usageBytes - Number(memory.total_inactive_file)),
    limitBytes: limited(limit),
    rssBytes: Number(memory.total_rss),
    pageFaults: Number(memory.total_pg_fault),
    majorPageFaults: Number(memory.total_pg_maj_fault),
    swap: null,
    psi: null,
  }
}

function memoryV2(memory: MemoryV2): MemoryReading {
  const usageBytes = Number(memory.usage)
  return {
    atNs: nowNs(),
    usageBytes,
    workingSetBytes: Math.max(0, usageBytes - Number(memory.inactive_file)),
    limitBytes: limited(Number(memory.usage_limit)),
    rssBytes: Number(memory.anon),
    pageFaults: Number(memory.pgfault),
    majorPageFaults: Number(memory.pgmajfault),
    swap: null,
    psi: psiOf(memory.psi),
  }
}

function psiOf(stats: PSIStats__Output | null | undefined): Psi | null {
  if (!stats) return null
  const pressure = (line: PSIStats__Output['some']): Pressure | null => {
    if (!line) return null
    const { avg10, avg60, avg300, total } = line
    return { avg10, avg60, avg300, totalNs: Number(total) * 1000 }
  }
  return { some: pressure(stats.some), full: pressure(stats.full) }
}
