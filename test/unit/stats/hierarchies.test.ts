import { describe, expect, it } from 'vitest'
import { deviceOf, findHierarchies } from '../../../src/stats/hierarchies.ts'

describe('findHierarchies', () => {
  it('finds v2', () => {
    const { memory, cpuacct, unified } = findHierarchies(
      '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate',
    )
    expect([memory, cpuacct]).toEqual(Array.from({ length: 2 }, () => ({ version: 2, mount: '/sys/fs/cgroup' })))
    expect(unified).toBe('/sys/fs/cgroup')
  })

  it('finds each controller of a hybrid machine where it is', () => {
    const { memory, cpu, cpuacct, pids, unified } = findHierarchies(`31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw`)
    expect(cpu).toEqual({ version: 1, mount: '/sys/fs/cgroup/cpu,cpuacct' })
    expect(cpuacct).toEqual(cpu)
    expect(memory).toEqual({ version: 1, mount: '/sys/fs/cgroup/with blank' })
    expect(pids).toEqual({ version: 2, mount: '/sys/fs/cgroup/unified' })
    expect(unified).toBe('/sys/fs/cgroup/unified')
  })

  it('finds nothing where nothing is mounted', () => {
    expect(Object.values(findHierarchies('')).every((found) => found === null)).toBe(true)
  })
})

describe('deviceOf', () => {
  it('is the source of the innermost mount, and the last of several at one place', () => {
    const mountinfo = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /var/lib rw - ext4 /dev/sda2 rw
3 2 8:3 / /var/lib rw - xfs /dev/sda3 rw
4 1 8:4 / /var/lib/image rw - xfs /dev/sda4 rw`
    expect(deviceOf(mountinfo, '/var/lib/images')).toBe('/dev/sda3')
    expect(deviceOf(mountinfo, '/var/lib/image')).toBe('/dev/sda4')
    expect(deviceOf(mountinfo, '/var/libs')).toBe('/dev/sda1')
  })
})
