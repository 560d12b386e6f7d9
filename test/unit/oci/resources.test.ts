import { describe, expect, it } from 'vitest'
import { linuxResources } from '../../../src/oci/resources.ts'
import { coded, resources } from './fixtures.ts'

const OPTIONS = { field: 'config.linux.resources', defaultCpuShares: 2n, cgroupV2: true }

describe('linuxResources', () => {
  it('takes zero as not given', () => {
    expect(linuxResources(resources(), OPTIONS)).toEqual({ cpu: { shares: 2n } })
    expect(linuxResources(null, OPTIONS)).toEqual({ cpu: { shares: 2n } })
    expect(linuxResources(null, { field: 'f', cgroupV2: true })).toEqual({})
  })

  it('writes controller files on v2 and refuses them on v1', () => {
    const given = resources({ unified: { 'memory.oom.group': '1' } })
    expect(linuxResources(given, OPTIONS).unified).toEqual({ 'memory.oom.group': '1' })
    expect(() => linuxResources(given, { ...OPTIONS, cgroupV2: false })).toThrow(coded('FailedPrecondition'))
  })

  it.each([
    [{ unified: { 'cgroup.procs': '1' } }, 'unified["cgroup.procs"]'],
    [{ unified: { 'memory.max/../cgroup.kill': '1' } }, 'unified['],
    [{ unified: { 'memory.max': '1\n2' } }, 'unified["memory.max"]'],
    [{ cpu_shares: '-1' }, 'cpu_shares'],
    [{ cpu_quota: '-2' }, 'cpu_quota'],
    [{ cpu_quota: '999' }, 'cpu_quota'],
    [{ cpu_period: '1000001' }, 'cpu_period'],
    [{ cpu_period: 'x' }, 'cpu_period'],
    [{ memory_limit_in_bytes: '9223372036854775808' }, 'memory_limit_in_bytes'],
    [{ memory_swap_limit_in_bytes: '1' }, 'memory_swap_limit_in_bytes'],
    [{ memory_limit_in_bytes: '2', memory_swap_limit_in_bytes: '1' }, 'memory_swap_limit_in_bytes'],
    [{ cpuset_cpus: '0;1' }, 'cpuset_cpus'],
    [{ cpuset_mems: '../x' }, 'cpuset_mems'],
    [{ hugepage_limits: [{ page_size: '2Mi', limit: '1' }] }, 'hugepage_limits[0].page_size'],
    [{ hugepage_limits: [{ page_size: '2MB', limit: '-1' }] }, 'hugepage_limits[0].limit'],
  ])('refuses %j', (change, field) => {
    expect(() => linuxResources(resources(change as Parameters<typeof resources>[0]), OPTIONS)).toThrow(
      coded('InvalidArgument', `config.linux.resources.${field}`),
    )
  })
})
