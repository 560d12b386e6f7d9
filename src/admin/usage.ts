import type { SandboxSample } from '../stats/types.ts'
import type { PodUsage } from './api.ts'
import { isoOfNs } from './times.ts'

/** What pods use, those that use the most processor time first. */
export function podUsages(samples: readonly SandboxSample[]): readonly PodUsage[] {
  return samples.map(podUsage).sort((a, b) => (b.cpuCores ?? 0) - (a.cpuCores ?? 0))
}

function podUsage({ target, usageNanoCores, memory, processCount, network }: SandboxSample): PodUsage {
  const sum = (key: 'rxBytes' | 'txBytes'): number =>
    (network?.interfaces ?? []).reduce((total, one) => total + one[key], 0)
  return {
    id: target.id,
    name: target.metadata.name,
    namespace: target.metadata.namespace,
    cpuCores: usageNanoCores === null ? null : usageNanoCores / 1e9,
    memoryBytes: memory?.workingSetBytes ?? null,
    pids: processCount,
    network: network && { at: isoOfNs(network.atNs), rxBytes: sum('rxBytes'), txBytes: sum('txBytes') },
  }
}
