import { describe, expect, it } from 'vitest'
import { cgroupDirectory, limitsDirectory } from '../../../src/executor/cgroup-directory.ts'
import type { ContainerRecord } from '../../../src/executor/types.ts'

const record = (cgroupsPath: string, path = '/usr/bin/crun'): ContainerRecord => ({
  id: 'x',
  runtime: { path, root: '/run/r', systemdCgroup: cgroupsPath.includes(':') },
  bundleDir: '/run/b',
  cgroupsPath,
  ownedCgroupParents: [],
})

describe('the cgroup of a container', () => {
  it.each([
    ['/sandboxerd/x', '/sandboxerd/x'],
    ['system.slice:sandboxerd:x', '/system.slice/sandboxerd-x.scope'],
    ['a-b-c.slice:sandboxerd:x', '/a.slice/a-b.slice/a-b-c.slice/sandboxerd-x.scope'],
    ['-.slice:sandboxerd:x', '/sandboxerd-x.scope'],
  ])('of %s is %s', (cgroupsPath, directory) => {
    expect(cgroupDirectory(record(cgroupsPath))).toBe(directory)
  })

  it.each([
    ['crun', 'system.slice:sandboxerd:x', true, '/system.slice/sandboxerd-x.scope/container'],
    ['crun', 'system.slice:sandboxerd:x', false, '/system.slice/sandboxerd-x.scope'],
    ['runc', 'system.slice:sandboxerd:x', true, '/system.slice/sandboxerd-x.scope'],
    ['crun', '/sandboxerd/x', true, '/sandboxerd/x'],
  ])('has its limits, by %s, of %s, on v2 %s: in %s', (runtime, cgroupsPath, isCgroupV2, directory) => {
    expect(limitsDirectory(record(cgroupsPath, `/usr/bin/${runtime}`), isCgroupV2)).toBe(directory)
  })
})
