import type { ProtoGrpcType as ShimPackages } from '../generated/shim.ts'
import type { EncodedMessage, SandboxUsage } from './types.ts'

const NS_PER_US = 1000n

/** What is most asked for in the metrics of a cgroup; null for what is none. */
export function usageOf({ typeUrl, value }: EncodedMessage, { io }: ShimPackages): SandboxUsage | null {
  const { v1, v2 } = io.containerd.cgroups
  switch (typeUrl.slice(typeUrl.lastIndexOf('/') + 1)) {
    case 'io.containerd.cgroups.v1.Metrics': {
      const { cpu, memory, pids } = v1.Metrics.deserialize(Buffer.from(value))
      return {
        version: 1,
        cpuNs: BigInt(cpu?.usage?.total ?? 0),
        memoryBytes: BigInt(memory?.usage?.usage ?? 0),
        pids: BigInt(pids?.current ?? 0),
      }
    }
    case 'io.containerd.cgroups.v2.Metrics': {
      const { cpu, memory, pids } = v2.Metrics.deserialize(Buffer.from(value))
      return {
        version: 2,
        cpuNs: BigInt(cpu?.usage_usec ?? 0) * NS_PER_US,
        memoryBytes: BigInt(memory?.usage ?? 0),
        pids: BigInt(pids?.current ?? 0),
      }
    }
    default:
      return null
  }
}
