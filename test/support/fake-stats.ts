import type { CgroupReading } from '../../src/stats/cgroup-reading.ts'
import type { ReadAnswer, Reader, ReadRequest } from '../../src/stats/reader.ts'
import type { ContainerTarget, LayerFileSystem, SandboxTarget, StatsSource } from '../../src/stats/types.ts'

/** Ids are 64 hex characters. */
export function idOf(text: string): string {
  return text.padEnd(64, '0')
}

export function containerTarget(id: string, changes: Partial<ContainerTarget> = {}): ContainerTarget {
  return {
    id: idOf(id),
    sandboxId: idOf('a'),
    metadata: { name: `name-${id}`, attempt: 0 },
    labels: {},
    annotations: {},
    image: 'registry/image:1',
    running: true,
    cgroupPath: `/pods/${id}`,
    pid: 1,
    upperDir: '',
    startedAtNs: 1_763_692_200_000_000_000n,
    resources: null,
    ...changes,
  }
}

export function sandboxTarget(id: string, changes: Partial<SandboxTarget> = {}): SandboxTarget {
  return {
    id: idOf(id),
    metadata: { name: `pod-${id}`, namespace: 'default', uid: `uid-${id}`, attempt: 0 },
    labels: {},
    annotations: {},
    ready: true,
    cgroupPath: `/pods/pause-${id}`,
    cgroupParent: '',
    pid: 1,
    netnsPath: '',
    ...changes,
  }
}

/** A cgroup that used so much CPU time and memory. */
export function cgroupReading(usageNs: number, usageBytes: number, monotonicNs = 0): CgroupReading {
  const atNs = 1_763_692_201_000_000_000n
  return {
    cpu: { atNs, monotonicNs, usageNs, psi: null },
    memory: {
      atNs,
      usageBytes,
      workingSetBytes: usageBytes / 2,
      limitBytes: null,
      rssBytes: usageBytes / 4,
      pageFaults: 3,
      majorPageFaults: 1,
      swap: null,
      psi: null,
    },
    io: null,
    processCount: 2,
    detail: null,
  }
}

export class FakeSource implements StatsSource {
  containerTargets: ContainerTarget[] = []
  sandboxTargets: SandboxTarget[] = []

  containers(): readonly ContainerTarget[] {
    return this.containerTargets
  }

  sandboxes(): readonly SandboxTarget[] {
    return this.sandboxTargets
  }
}

/** Cgroups in memory, by path. */
export class FakeReader implements Reader {
  readonly cgroups = new Map<string, CgroupReading>()
  readonly reads: (readonly ReadRequest[])[] = []
  /** Awaited before each answer; may throw. */
  inTheWay: () => Promise<void> = async () => {}

  async read(requests: readonly ReadRequest[]): Promise<readonly ReadAnswer[]> {
    if (requests.length > 0) this.reads.push(requests)
    await this.inTheWay()
    return requests.map(({ cgroup }) => ({
      cgroup: (cgroup && this.cgroups.get(cgroup.cgroupPath)) ?? null,
      network: null,
      failure: '',
    }))
  }

  async fileSystem(): Promise<LayerFileSystem> {
    return { device: '/dev/sda1', totalBytes: 1000, totalInodes: 100, freeInodes: 60 }
  }
}
