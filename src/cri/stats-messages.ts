import type { ContainerStats } from '../generated/runtime/v1/ContainerStats.ts'
import type { CpuUsage } from '../generated/runtime/v1/CpuUsage.ts'
import type { FilesystemUsage } from '../generated/runtime/v1/FilesystemUsage.ts'
import type { IoUsage } from '../generated/runtime/v1/IoUsage.ts'
import type { MemoryUsage } from '../generated/runtime/v1/MemoryUsage.ts'
import type { NetworkInterfaceUsage } from '../generated/runtime/v1/NetworkInterfaceUsage.ts'
import type { NetworkUsage } from '../generated/runtime/v1/NetworkUsage.ts'
import type { PodSandboxStats } from '../generated/runtime/v1/PodSandboxStats.ts'
import type { PsiData } from '../generated/runtime/v1/PsiData.ts'
import type { PsiStats } from '../generated/runtime/v1/PsiStats.ts'
import type { SwapUsage } from '../generated/runtime/v1/SwapUsage.ts'
import type { UInt64Value } from '../generated/runtime/v1/UInt64Value.ts'
import type { CpuReading, IoReading, MemoryReading, Pressure, Psi } from '../stats/cgroup-reading.ts'
import type { InterfaceReading, NetworkReading } from '../stats/net-dev.ts'
import type { ContainerSample, SandboxSample } from '../stats/types.ts'
import type { LayerUsage } from '../stats/writable-layers.ts'

/** What stands for the interface that a pod talks through. */
const DEFAULT_INTERFACE = 'eth0'

/** @param layersPath what ImageFsInfo calls the file system of the writable layers. */
export function toContainerStats(sample: ContainerSample, layersPath: string): ContainerStats {
  const { target, cgroup, usageNanoCores, writableLayer } = sample
  const { id, metadata, labels, annotations } = target
  return {
    attributes: { id, metadata, labels, annotations },
    cpu: cgroup?.cpu ? toCpu(cgroup.cpu, usageNanoCores) : null,
    memory: cgroup?.memory ? toMemory(cgroup.memory) : null,
    swap: cgroup?.memory ? toSwap(cgroup.memory) : null,
    io: cgroup?.io ? toIo(cgroup.io) : null,
    writable_layer: writableLayer && toLayer(writableLayer, layersPath),
  }
}

/** @param toContainer makes the messages of its containers. */
export function toPodSandboxStats(
  sample: SandboxSample,
  toContainer: (sample: ContainerSample) => ContainerStats,
): PodSandboxStats {
  const { target, cpu, usageNanoCores, memory, io, processCount, network, containers } = sample
  const { id, metadata, labels, annotations } = target
  const timestamp = (cpu ?? memory)?.atNs.toString()
  return {
    attributes: { id, metadata, labels, annotations },
    linux: {
      cpu: cpu && toCpu(cpu, usageNanoCores),
      memory: memory && toMemory(memory),
      network: network && toNetwork(network),
      process: timestamp === undefined ? null : { timestamp, process_count: optional(processCount) },
      io: io && toIo(io),
      containers: containers.map(toContainer),
    },
  }
}

function toCpu({ atNs, usageNs, psi }: CpuReading, usageNanoCores: number | null): CpuUsage {
  return {
    timestamp: atNs.toString(),
    usage_core_nano_seconds: { value: usageNs },
    usage_nano_cores: optional(usageNanoCores),
    psi: psi && toPsi(psi),
  }
}

function toMemory(reading: MemoryReading): MemoryUsage {
  const { limitBytes, workingSetBytes, psi } = reading
  return {
    timestamp: reading.atNs.toString(),
    usage_bytes: { value: reading.usageBytes },
    working_set_bytes: { value: workingSetBytes },
    available_bytes: limitBytes === null ? null : { value: Math.max(0, limitBytes - workingSetBytes) },
    rss_bytes: { value: reading.rssBytes },
    page_faults: { value: reading.pageFaults },
    major_page_faults: { value: reading.majorPageFaults },
    psi: psi && toPsi(psi),
  }
}

function toSwap({ atNs, swap }: MemoryReading): SwapUsage | null {
  if (swap === null) return null
  const { usageBytes, limitBytes } = swap
  return {
    timestamp: atNs.toString(),
    swap_usage_bytes: { value: usageBytes },
    swap_available_bytes: limitBytes === null ? null : { value: Math.max(0, limitBytes - usageBytes) },
  }
}

function toIo({ atNs, psi }: IoReading): IoUsage {
  return { timestamp: atNs.toString(), psi: toPsi(psi) }
}

function toPsi({ some, full }: Psi): PsiStats {
  return { Some: some && toPsiData(some), Full: full && toPsiData(full) }
}

function toPsiData({ totalNs, avg10, avg60, avg300 }: Pressure): PsiData {
  return { Total: totalNs, Avg10: avg10, Avg60: avg60, Avg300: avg300 }
}

function toLayer({ atNs, usedBytes, inodesUsed }: LayerUsage, mountpoint: string): FilesystemUsage {
  return {
    timestamp: atNs.toString(),
    fs_id: { mountpoint },
    used_bytes: { value: usedBytes },
    inodes_used: { value: inodesUsed },
  }
}

function toNetwork({ atNs, interfaces: readings }: NetworkReading): NetworkUsage {
  const interfaces = readings.map(toInterface)
  const byDefault = interfaces.find(({ name }) => name === DEFAULT_INTERFACE) ?? interfaces[0] ?? null
  return { timestamp: atNs.toString(), default_interface: byDefault, interfaces }
}

function toInterface({ name, rxBytes, rxErrors, txBytes, txErrors }: InterfaceReading): NetworkInterfaceUsage {
  return {
    name,
    rx_bytes: { value: rxBytes },
    rx_errors: { value: rxErrors },
    tx_bytes: { value: txBytes },
    tx_errors: { value: txErrors },
  }
}

function optional(value: number | null): UInt64Value | null {
  return value === null ? null : { value }
}
