import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { toMetrics } from '../../../src/sandboxer/metrics.ts'
import type { CgroupReading } from '../../../src/stats/cgroup-reading.ts'
import { toldReading } from '../../../src/stats/told-metrics.ts'

const api = loadShimApi()
const { v1, v2 } = api.io.containerd.cgroups
const codec = { v1: v1.Metrics.serialize, v2: v2.Metrics.serialize }

const NOTHING: CgroupReading = { cpu: null, memory: null, io: null, processCount: null, detail: null }

function reading(memory: { usage: number; inactive: number; limit: number | null; rss: number }): CgroupReading {
  return {
    ...NOTHING,
    cpu: { atNs: 1n, monotonicNs: 1, usageNs: 1_234_567_000, psi: null },
    memory: {
      atNs: 1n,
      usageBytes: memory.usage + memory.inactive,
      workingSetBytes: memory.usage,
      limitBytes: memory.limit,
      rssBytes: memory.rss,
      pageFaults: 11,
      majorPageFaults: 2,
      swap: null,
      psi: null,
    },
    processCount: 3,
  }
}

function metrics(cgroup: CgroupReading, isV2: boolean): { readonly type_url: string; readonly value: Uint8Array } {
  const { type_url: typeUrl = '', value } = toMetrics({ cgroup, interfaces: [] }, isV2, codec) as Record<
    string,
    unknown
  >
  if (typeof typeUrl !== 'string' || !(value instanceof Uint8Array)) throw new Error('it is no message')
  return { type_url: typeUrl, value }
}

describe.each([
  ['v1', false],
  ['v2', true],
] as const)('toMetrics of cgroup %s', (version, isV2) => {
  it('is read by a client as what was measured', () => {
    const bytes = fc.nat({ max: 2 ** 40 })
    const memory = fc.record({
      usage: bytes,
      inactive: bytes,
      limit: fc.option(fc.integer({ min: 1, max: 2 ** 40 }), { nil: null }),
      rss: bytes,
    })
    fc.assert(
      fc.property(memory, (given) => {
        const cgroup = reading(given)
        const { type_url: typeUrl, value } = metrics(cgroup, isV2)
        expect(typeUrl).toBe(`io.containerd.cgroups.${version}.Metrics`)
        const told = toldReading({ typeUrl, value: Buffer.from(value) }, api)
        expect(told).toMatchObject({
          cpu: { usageNs: 1_234_567_000 },
          memory: {
            usageBytes: given.usage + given.inactive,
            workingSetBytes: given.usage,
            limitBytes: given.limit,
            rssBytes: given.rss,
            pageFaults: 11,
            majorPageFaults: 2,
          },
          processCount: 3,
        })
      }),
    )
  })

  it('says nothing of what was not measured', () => {
    const { value } = metrics(NOTHING, isV2)
    const read = (isV2 ? v2 : v1).Metrics.deserialize(Buffer.from(value))
    expect(read).toMatchObject({ cpu: null, memory: null, pids: null, network: [] })
  })
})
