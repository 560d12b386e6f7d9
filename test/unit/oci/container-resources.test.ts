import { describe, expect, it } from 'vitest'
import { containerResources, mergeContainerResources } from '../../../src/oci/container-resources.ts'
import { ociJson } from '../../../src/oci/json.ts'
import { coded, resources } from './fixtures.ts'

const limits = { hugepageSizes: ['2MB', '1GB'], hasSwapAccounting: true }
const options = { field: 'linux', cgroupMode: 'v2', limits } as const
const given = (change: Parameters<typeof resources>[0], more: Partial<typeof options> = {}) =>
  containerResources(resources(change), { ...options, ...more })

describe('containerResources', () => {
  it('says nothing of what is not given', () => {
    expect(containerResources(null, options)).toEqual({})
    expect(given({})).toEqual({})
  })

  it('allows no swap beyond the memory unless it is asked for', () => {
    expect(given({ memory_limit_in_bytes: '100' }).memory).toEqual({ limit: 100n, swap: 100n })
    expect(given({ memory_limit_in_bytes: '100', memory_swap_limit_in_bytes: '300' }).memory).toEqual({
      limit: 100n,
      swap: 300n,
    })
    expect(given({ memory_limit_in_bytes: '-1' }).memory).toEqual({ limit: -1n, swap: -1n })
  })

  it('does not speak of swap where the node does not account it', () => {
    const without = { limits: { ...limits, hasSwapAccounting: false } } as unknown as Partial<typeof options>
    const change = { memory_limit_in_bytes: '100', memory_swap_limit_in_bytes: '300' }
    expect(given(change, without).memory).toEqual({ limit: 100n })
  })

  it('limits huge pages of the sizes that the node has, and refuses to promise it for others', () => {
    const hugepage_limits = [
      { page_size: '2MB', limit: '4096' },
      { page_size: '64KB', limit: '0' },
    ]
    expect(given({ hugepage_limits })).toEqual({ hugepageLimits: [{ pageSize: '2MB', limit: 4096n }] })
    expect(() => given({ hugepage_limits: [{ page_size: '64KB', limit: '1' }] })).toThrow(
      coded('FailedPrecondition', 'linux.hugepage_limits[0]'),
    )
  })

  it('takes files of cgroup v2 by their exact names only', () => {
    expect(given({ unified: { 'memory.high': '100', 'memory.oom.group': '1' } }).unified).toEqual({
      'memory.high': '100',
      'memory.oom.group': '1',
    })
    for (const key of ['cgroup.procs', '../memory.high', 'memory/../x', 'memory.high/', 'Memory.high', '']) {
      expect(() => given({ unified: { [key]: '1' } })).toThrow(coded('InvalidArgument', 'linux.unified'))
    }
    expect(() => given({ unified: { 'memory.high': '1\n2' } })).toThrow(coded('InvalidArgument', 'linux.unified'))
    const v1 = { cgroupMode: 'v1' } as unknown as Partial<typeof options>
    expect(() => given({ unified: { 'memory.high': '1' } }, v1)).toThrow(coded('FailedPrecondition', 'cgroup v2'))
  })

  it('has a text for `update`', () => {
    expect(ociJson(given({ memory_limit_in_bytes: '9007199254740993' }))).toBe(
      '{"memory":{"limit":9007199254740993,"swap":9007199254740993}}',
    )
  })
})

describe('mergeContainerResources', () => {
  it('replaces what is given and leaves the rest', () => {
    const current = resources({
      cpu_shares: '2',
      cpu_quota: '5',
      cpuset_cpus: '0',
      hugepage_limits: [{ page_size: '2MB', limit: '1' }],
      unified: { 'memory.high': '1', 'memory.low': '1' },
    })
    const change = resources({
      cpu_quota: '-1',
      hugepage_limits: [{ page_size: '1GB', limit: '3' }],
      unified: { 'memory.high': '2' },
    })
    expect(mergeContainerResources(current, change)).toEqual({
      ...current,
      cpu_quota: '-1',
      hugepage_limits: [
        { page_size: '2MB', limit: '1' },
        { page_size: '1GB', limit: '3' },
      ],
      unified: { 'memory.high': '2', 'memory.low': '1' },
    })
    expect(mergeContainerResources(null, change)).toEqual(change)
  })

  it('does not hold a new memory limit to an old one for swap', () => {
    const current = resources({ memory_limit_in_bytes: '100', memory_swap_limit_in_bytes: '150' })
    const raised = mergeContainerResources(current, resources({ memory_limit_in_bytes: '200' }))
    expect(containerResources(raised, options).memory).toEqual({ limit: 200n, swap: 200n })
    expect(mergeContainerResources(current, resources({ cpu_shares: '3' })).memory_swap_limit_in_bytes).toBe('150')
  })
})
