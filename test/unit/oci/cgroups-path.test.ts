import { describe, expect, it } from 'vitest'
import { cgroupsPath } from '../../../src/oci/cgroups-path.ts'
import { coded } from './fixtures.ts'

describe('cgroupsPath', () => {
  it.each([
    ['cgroupfs', '', '/sandboxerd/x'],
    ['cgroupfs', '/kubepods/burstable/pod1', '/kubepods/burstable/pod1/x'],
    ['cgroupfs', 'kubepods//pod1/', '/kubepods/pod1/x'],
    ['cgroupfs', '/system.slice/pods', '/system.slice/pods/x'],
    ['systemd', '', 'system.slice:sandboxerd:x'],
    ['systemd', 'kubepods-pod1_a.slice', 'kubepods-pod1_a.slice:sandboxerd:x'],
    ['systemd', '/kubepods.slice/kubepods-pod1.slice', 'kubepods-pod1.slice:sandboxerd:x'],
    ['systemd', '-.slice', '-.slice:sandboxerd:x'],
  ] as const)('%s driver, parent %j: %s', (driver, cgroupParent, path) => {
    expect(cgroupsPath({ driver, cgroupParent, id: 'x' })).toBe(path)
  })

  it.each([
    ['cgroupfs', 'kubepods-pod1.slice'],
    ['cgroupfs', '/kubepods.slice/kubepods-pod1.slice'],
    ['cgroupfs', '/a/../../b'],
    ['cgroupfs', '/a/./b'],
    ['cgroupfs', '/a\nb'],
    ['systemd', '/kubepods/pod1'],
    ['systemd', '/kubepods/pod1.slice'],
    ['systemd', 'a:b.slice'],
    ['systemd', '.slice'],
    ['systemd', 'a--b.slice'],
    ['systemd', '-a.slice'],
    ['systemd', 'a b.slice'],
    ['systemd', 'a\u0000.slice'],
  ] as const)('%s driver refuses %j', (driver, cgroupParent) => {
    expect(() => cgroupsPath({ driver, cgroupParent, id: 'x' })).toThrow(
      coded('InvalidArgument', 'config.linux.cgroup_parent'),
    )
  })
})
