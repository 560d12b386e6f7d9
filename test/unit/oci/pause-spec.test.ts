import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { UserNamespace__Output } from '../../../src/generated/runtime/v1/UserNamespace.ts'
import { ociJson } from '../../../src/oci/json.ts'
import { pauseSpec } from '../../../src/oci/pause-spec.ts'
import type { Spec } from '../../../src/oci/spec.ts'
import {
  coded,
  ID,
  inputWith,
  linuxConfig,
  namespaceOptions,
  pauseInput,
  resources,
  sandboxConfig,
} from './fixtures.ts'

const types = (spec: Spec): string[] => spec.linux.namespaces.map((namespace) => namespace.type).sort()

const USERNS: UserNamespace__Output = {
  mode: 'POD',
  uids: [{ host_id: 100_000, container_id: 0, length: 65_536 }],
  gids: [{ host_id: 200_000, container_id: 0, length: 65_536 }],
}

describe('pauseSpec', () => {
  it('gives an ordinary pod exactly this spec', () => {
    expect(pauseSpec(pauseInput())).toEqual({
      ociVersion: '1.0.2',
      process: {
        terminal: false,
        user: { uid: 0, gid: 0, additionalGids: [0] },
        args: ['/pause', '-P'],
        env: [],
        cwd: '/',
        capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
        noNewPrivileges: true,
        oomScoreAdj: -998,
      },
      root: { path: '/var/lib/sandboxerd/pause', readonly: true },
      hostname: 'web',
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
        {
          destination: '/dev',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=64k'],
        },
      ],
      annotations: {
        'io.kubernetes.cri.container-type': 'sandbox',
        'io.kubernetes.cri.sandbox-id': ID,
        'io.kubernetes.cri.sandbox-name': 'web',
        'io.kubernetes.cri.sandbox-namespace': 'default',
        'io.kubernetes.cri.sandbox-uid': 'uid-1',
        'io.kubernetes.cri.sandbox-attempt': '0',
        'io.kubernetes.cri.sandbox-log-directory': '/var/log/pods/web',
        'io.sandboxerd.runtime-handler': '',
        'io.sandboxerd.sandboxer': 'shim',
      },
      linux: {
        namespaces: [
          { type: 'mount' },
          { type: 'pid' },
          { type: 'ipc' },
          { type: 'network', path: '/run/netns/web' },
          { type: 'uts' },
        ],
        cgroupsPath: `/sandboxerd/${ID}`,
        resources: { devices: [{ allow: false, access: 'rwm' }], cpu: { shares: 2n } },
        maskedPaths: [
          '/proc/acpi',
          '/proc/asound',
          '/proc/interrupts',
          '/proc/kcore',
          '/proc/keys',
          '/proc/latency_stats',
          '/proc/sched_debug',
          '/proc/scsi',
          '/proc/timer_list',
          '/proc/timer_stats',
          '/sys/devices/virtual/powercap',
          '/sys/firmware',
        ],
        readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
      },
    })
  })

  it('takes a pod without a linux section as one with all defaults', () => {
    expect(pauseSpec(pauseInput({ config: sandboxConfig({ linux: null }) }))).toEqual(pauseSpec(pauseInput()))
  })

  it('leaves the node its host name and network in a host-network pod', () => {
    const spec = pauseSpec(
      inputWith({ namespace_options: namespaceOptions({ network: 'NODE' }) }, { namespaces: { netPath: null } }),
    )
    expect(types(spec)).toEqual(['ipc', 'mount', 'pid'])
    expect(spec).not.toHaveProperty('hostname')
  })

  it('makes a pid namespace unless the pod uses that of the node', () => {
    expect(types(pauseSpec(inputWith({ namespace_options: namespaceOptions({ pid: 'CONTAINER' }) })))).toContain('pid')
    expect(types(pauseSpec(inputWith({ namespace_options: namespaceOptions({ pid: 'NODE' }) })))).not.toContain('pid')
  })

  it('makes an IPC namespace unless the pod uses that of the node', () => {
    expect(types(pauseSpec(inputWith({ namespace_options: namespaceOptions({ ipc: 'NODE' }) })))).not.toContain('ipc')
  })

  it('makes a cgroup namespace on v2 only', () => {
    expect(types(pauseSpec(pauseInput({ cgroupMode: 'v2' })))).toContain('cgroup')
    expect(types(pauseSpec(pauseInput({ cgroupMode: 'hybrid' })))).not.toContain('cgroup')
  })

  it('joins pinned namespaces', () => {
    const namespaces = { netPath: '/run/netns/a', ipcPath: '/run/x/ipc', utsPath: '/run/x/uts' }
    expect(pauseSpec(pauseInput({ namespaces })).linux.namespaces).toEqual(
      expect.arrayContaining([
        { type: 'network', path: '/run/netns/a' },
        { type: 'ipc', path: '/run/x/ipc' },
        { type: 'uts', path: '/run/x/uts' },
      ]),
    )
  })

  it('joins the user namespace of the pod, with its mappings', () => {
    const namespaces = { netPath: '/run/netns/a', userPath: '/run/x/user' }
    const { linux } = pauseSpec({
      ...inputWith({ namespace_options: namespaceOptions({ userns_options: USERNS }) }),
      namespaces,
    })
    expect(linux.namespaces).toContainEqual({ type: 'user', path: '/run/x/user' })
    expect(linux.uidMappings).toEqual([{ containerID: 0, hostID: 100_000, size: 65_536 }])
    expect(linux.gidMappings).toEqual([{ containerID: 0, hostID: 200_000, size: 65_536 }])
    expect(pauseSpec(pauseInput()).linux).not.toHaveProperty('uidMappings')
  })

  it('is never in the node’s user namespace where the pod has its own, nor the other way round', () => {
    const input = inputWith({ namespace_options: namespaceOptions({ userns_options: USERNS }) })
    expect(() => pauseSpec(input)).toThrow(coded('Internal', 'user namespace'))
    const namespaces = { netPath: '/run/netns/a', userPath: '/run/x/user' }
    expect(() => pauseSpec(pauseInput({ namespaces }))).toThrow(coded('Internal', 'user namespace'))
  })

  it.each([null, '', 'run/netns/a', '/proc/0/ns/net'])('never falls back to another network: %j', (netPath) => {
    expect(() => pauseSpec(pauseInput({ namespaces: { netPath } }))).toThrow(coded('Internal'))
  })

  it('refuses a network path for a pod on the node’s network', () => {
    const input = inputWith({ namespace_options: namespaceOptions({ network: 'NODE' }) })
    expect(() => pauseSpec(input)).toThrow(coded('Internal'))
  })

  it.each([
    [namespaceOptions({ network: 'CONTAINER' }), 'namespace_options.network'],
    [namespaceOptions({ pid: 'TARGET' }), 'namespace_options.pid'],
    [namespaceOptions({ ipc: 'CONTAINER' }), 'namespace_options.ipc'],
    [namespaceOptions({ userns_options: { mode: 'CONTAINER', uids: [], gids: [] } }), 'userns_options.mode'],
    [namespaceOptions({ network: 'NODE', userns_options: USERNS }), 'userns_options.mode'],
    [namespaceOptions({ pid: 'NODE', userns_options: USERNS }), 'userns_options.mode'],
    [namespaceOptions({ ipc: 'NODE', userns_options: USERNS }), 'userns_options.mode'],
  ])('refuses %j', (namespace_options, field) => {
    expect(() => pauseSpec(inputWith({ namespace_options }))).toThrow(coded('InvalidArgument', field))
  })

  it('gives a privileged pod what the daemon may give, and no more', () => {
    const seccomp = { defaultAction: 'SCMP_ACT_ALLOW', architectures: [], syscalls: [] } as const
    const { process, linux, root } = pauseSpec(inputWith({ privileged: true }, { seccomp }))
    const all = ['CAP_CHOWN', 'CAP_SYS_ADMIN']
    expect(process.capabilities).toEqual({
      bounding: all,
      effective: all,
      permitted: all,
      inheritable: [],
      ambient: [],
    })
    expect(process.noNewPrivileges).toBe(false)
    expect(linux).toMatchObject({ maskedPaths: [], readonlyPaths: [] })
    expect(linux.resources.devices).toEqual([{ allow: true, access: 'rwm' }])
    expect(linux).not.toHaveProperty('seccomp')
    expect(root.readonly).toBe(true)
  })

  it('carries seccomp, AppArmor and SELinux where they are given', () => {
    const seccomp = { defaultAction: 'SCMP_ACT_ERRNO', architectures: ['SCMP_ARCH_X86_64'], syscalls: [] } as const
    const selinux = { processLabel: 'u:r:t:s0', mountLabel: 'u:o:f:s0' }
    const spec = pauseSpec(pauseInput({ seccomp, selinux, apparmorProfile: 'pause' }))
    expect(spec.linux).toMatchObject({ seccomp, mountLabel: 'u:o:f:s0' })
    expect(spec.process).toMatchObject({ apparmorProfile: 'pause', selinuxLabel: 'u:r:t:s0' })
  })

  it('puts the limits of the pod on the pause cgroup and their sums into annotations', () => {
    const config = sandboxConfig({
      linux: linuxConfig({
        resources: resources({
          cpu_period: '100000',
          cpu_quota: '-1',
          cpu_shares: '512',
          memory_limit_in_bytes: '9007199254740993',
          memory_swap_limit_in_bytes: '9007199254740995',
          cpuset_cpus: '0-1,3',
          cpuset_mems: '0',
          hugepage_limits: [{ page_size: '2MB', limit: '18446744073709551615' }],
        }),
        overhead: resources({ cpu_quota: '5' }),
      }),
    })
    const spec = pauseSpec(pauseInput({ config }))
    expect(spec.linux.resources).toEqual({
      devices: [{ allow: false, access: 'rwm' }],
      cpu: { shares: 512n, quota: -1n, period: 100000n, cpus: '0-1,3', mems: '0' },
      memory: { limit: 9007199254740993n, swap: 9007199254740995n },
      hugepageLimits: [{ pageSize: '2MB', limit: 18446744073709551615n }],
    })
    expect(spec.annotations).toMatchObject({
      'io.kubernetes.cri.sandbox-cpu-period': '100000',
      'io.kubernetes.cri.sandbox-cpu-quota': '-1',
      'io.kubernetes.cri.sandbox-cpu-shares': '512',
      'io.kubernetes.cri.sandbox-memory': '9007199254740993',
    })
    expect(ociJson(spec)).toContain('"limit":9007199254740993,"swap":9007199254740995')
    expect(ociJson(spec)).toContain('"limit":18446744073709551615')
  })

  it('names the metadata when it is missing', () => {
    expect(() => pauseSpec(pauseInput({ config: sandboxConfig({ metadata: null }) }))).toThrow('config.metadata')
  })

  it.each(['a\nb', 'a/b', 'a b', 'x'.repeat(65)])('refuses the host name %j', (hostname) => {
    expect(() => pauseSpec(pauseInput({ hostname }))).toThrow('config.hostname')
  })

  it('lets nothing of the pod’s annotations and labels through', () => {
    const plain = pauseSpec(pauseInput())
    const key = fc.oneof(
      fc.string(),
      fc.constantFrom('run.oci.keep_original_groups', 'org.systemd.property.ExecStart', '__proto__'),
    )
    fc.assert(
      fc.property(fc.dictionary(key, fc.string()), (annotations) => {
        const config = sandboxConfig({ annotations, labels: annotations })
        expect(pauseSpec(pauseInput({ config }))).toEqual(plain)
      }),
      { numRuns: 100 },
    )
  })
})
