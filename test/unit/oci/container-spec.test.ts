import { describe, expect, it } from 'vitest'
import { containerSpec } from '../../../src/oci/container-spec.ts'
import { NEW_NAMESPACE } from '../../../src/oci/namespaces.ts'
import type { Spec } from '../../../src/oci/spec.ts'
import { CONTAINER_ID, containerConfig, containerInput, containerWith, privilegedInput } from './container-fixtures.ts'
import { coded, ID, linuxConfig, namespaceOptions, resources, sandboxConfig, securityContext } from './fixtures.ts'

const paths = (spec: Spec): string[] => spec.mounts.map(({ destination }) => destination)
const bind = (destination: string, source = '/srv', options = ['rbind', 'rprivate', 'rw']) => ({
  destination,
  type: 'bind',
  source,
  options,
})
const podWith = (change: Parameters<typeof namespaceOptions>[0]) =>
  sandboxConfig({
    linux: linuxConfig({ security_context: securityContext({ namespace_options: namespaceOptions(change) }) }),
  })

describe('containerSpec', () => {
  it('gives an ordinary container exactly this spec', () => {
    expect(containerSpec(containerInput())).toEqual({
      ociVersion: '1.0.2',
      process: {
        terminal: false,
        user: { uid: 0, gid: 0, additionalGids: [0] },
        args: ['/bin/nginx'],
        env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOSTNAME=web'],
        cwd: '/',
        capabilities: {
          bounding: ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW'],
          effective: ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW'],
          permitted: ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW'],
          inheritable: [],
          ambient: [],
        },
        noNewPrivileges: false,
        oomScoreAdj: 0,
      },
      root: { path: '/run/rootfs', readonly: false },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
        {
          destination: '/dev',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
        },
        {
          destination: '/dev/pts',
          type: 'devpts',
          source: 'devpts',
          options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
        },
        { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
        { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
        {
          destination: '/sys/fs/cgroup',
          type: 'cgroup',
          source: 'cgroup',
          options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
        },
        bind('/etc/hostname', '/pod/hostname'),
        bind('/etc/hosts', '/pod/hosts'),
        bind('/etc/resolv.conf', '/pod/resolv.conf'),
        bind('/dev/shm', '/pod/shm'),
      ],
      annotations: {
        'io.kubernetes.cri.container-type': 'container',
        'io.kubernetes.cri.container-name': 'nginx',
        'io.kubernetes.cri.image-name': 'registry/nginx:1',
        'io.kubernetes.cri.sandbox-id': ID,
        'io.kubernetes.cri.sandbox-name': 'web',
        'io.kubernetes.cri.sandbox-namespace': 'default',
        'io.kubernetes.cri.sandbox-uid': 'uid-1',
        'io.sandboxerd.runtime-handler': 'crun',
      },
      linux: {
        namespaces: [
          { type: 'mount' },
          { type: 'pid', path: '/proc/7/ns/pid' },
          { type: 'ipc', path: '/proc/7/ns/ipc' },
          { type: 'network', path: '/run/netns/web' },
          { type: 'uts', path: '/proc/7/ns/uts' },
        ],
        cgroupsPath: `/sandboxerd/${CONTAINER_ID}`,
        resources: { devices: [{ allow: false, access: 'rwm' }] },
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

  it('takes an empty security context for none', () => {
    expect(containerSpec(containerWith({}))).toEqual(containerSpec(containerInput()))
  })

  it('hands neither annotations nor labels of anybody to the runtime', () => {
    const config = containerConfig({
      annotations: { 'run.oci.handler': 'krun', 'org.systemd.property.ExecStopPost': '"x"' },
      labels: { 'run.oci.x': 'y' },
    })
    const podConfig = sandboxConfig({ annotations: { 'run.oci.hooks.stdout': '/x' } })
    expect(containerSpec(containerInput({ config, podConfig }))).toEqual(containerSpec(containerInput()))
  })

  it('gives a privileged container the node: devices, /sys, all capabilities, no filter', () => {
    const seccomp = { defaultAction: 'SCMP_ACT_ERRNO', architectures: [], syscalls: [] } as const
    const spec = containerSpec(privilegedInput({ seccomp, cgroupMode: 'v2' }))
    expect(spec.linux.resources.devices).toEqual([{ allow: true, access: 'rwm' }])
    expect(spec.linux).not.toHaveProperty('seccomp')
    expect([spec.linux.maskedPaths, spec.linux.readonlyPaths]).toEqual([[], []])
    expect(spec.process.capabilities.bounding).toHaveLength(5)
    const sys = spec.mounts.filter(({ destination }) => destination.startsWith('/sys'))
    expect(sys.map(({ options }) => options.at(-1))).toEqual(['rw', 'rw'])
    expect(spec.linux.namespaces).not.toContainEqual({ type: 'cgroup' })
  })

  it('refuses a privileged container in a pod that is not', () => {
    expect(() => containerSpec(containerWith({ privileged: true }))).toThrow(
      coded('InvalidArgument', 'config.linux.security_context.privileged'),
    )
  })

  it('filters system calls, and applies labels and profiles that were decided', () => {
    const seccomp = { defaultAction: 'SCMP_ACT_ERRNO', architectures: [], syscalls: [] } as const
    const selinux = { processLabel: 'u:r:t:s0', mountLabel: 'u:o:f:s0' }
    const spec = containerSpec(containerWith({ no_new_privs: true }, { seccomp, selinux, apparmorProfile: 'p' }))
    expect(spec.linux).toMatchObject({ seccomp, mountLabel: 'u:o:f:s0' })
    expect(spec.process).toMatchObject({ selinuxLabel: 'u:r:t:s0', apparmorProfile: 'p', noNewPrivileges: true })
  })

  it('replaces the lists of hidden paths by those given, and refuses what could lead elsewhere', () => {
    const spec = containerSpec(containerWith({ masked_paths: ['/proc/kcore'], readonly_paths: ['/proc/sys'] }))
    expect([spec.linux.maskedPaths, spec.linux.readonlyPaths]).toEqual([['/proc/kcore'], ['/proc/sys']])
    for (const path of ['proc', '/proc/../etc', '/a\0b']) {
      expect(() => containerSpec(containerWith({ masked_paths: [path] }))).toThrow(
        coded('InvalidArgument', 'masked_paths[0]'),
      )
    }
  })

  it('makes the root read-only when asked to, and with it the files of the pod', () => {
    const spec = containerSpec(containerWith({ readonly_rootfs: true }))
    expect(spec.root.readonly).toBe(true)
    const access = spec.mounts.filter(({ source }) => source.startsWith('/pod/')).map(({ options }) => options[2])
    expect(access).toEqual(['ro', 'ro', 'ro', 'rw'])
  })

  it('limits what was asked for', () => {
    const limits = resources({ cpu_shares: '512', memory_limit_in_bytes: '1000' })
    expect(containerSpec(containerWith({}, {}, limits)).linux.resources).toEqual({
      devices: [{ allow: false, access: 'rwm' }],
      cpu: { shares: 512n },
      memory: { limit: 1000n, swap: 1000n },
    })
  })
})

describe('the mounts of containerSpec', () => {
  it('come in the order of their depth, the pod’s files among them', () => {
    const spec = containerSpec(containerInput({ mounts: [bind('/a/b/c'), bind('/etc'), bind('/a')] }))
    expect(paths(spec).slice(6)).toEqual([
      '/etc',
      '/a',
      '/etc/hostname',
      '/etc/hosts',
      '/etc/resolv.conf',
      '/dev/shm',
      '/a/b/c',
    ])
  })

  it('replace the pod’s file, or the standard mount, at the same path', () => {
    const spec = containerSpec(containerInput({ mounts: [bind('/etc/hosts'), bind('/dev/shm/'), bind('/proc')] }))
    expect(paths(spec).filter((path) => path === '/etc/hosts' || path === '/proc')).toHaveLength(2)
    expect(spec.mounts.filter(({ source }) => ['/pod/hosts', '/pod/shm', 'proc'].includes(source))).toEqual([])
  })

  it('leave nothing standard below a directory that is mounted over', () => {
    const spec = containerSpec(containerInput({ mounts: [bind('/dev'), bind('/sys')] }))
    expect(paths(spec)).toEqual([
      '/proc',
      '/dev',
      '/sys',
      '/etc/hostname',
      '/etc/hosts',
      '/etc/resolv.conf',
      '/dev/shm',
    ])
    expect(paths(containerSpec(containerInput({ mounts: [bind('/devices')] })))).toContain('/dev/pts')
  })

  it('leave out what the pod does not have', () => {
    const podFiles = { hostname: '', hosts: '', resolvConf: '', shm: '' }
    expect(containerSpec(containerInput({ podFiles })).mounts).toHaveLength(6)
  })

  it('let mounts through the root as far as one of them needs', () => {
    const slave = bind('/a', '/a', ['rbind', 'rslave', 'rw'])
    const shared = bind('/b', '/b', ['rbind', 'rshared', 'rw'])
    expect(containerSpec(containerInput({ mounts: [slave] })).linux.rootfsPropagation).toBe('rslave')
    expect(containerSpec(containerInput({ mounts: [slave, shared] })).linux.rootfsPropagation).toBe('rshared')
    expect(containerSpec(containerInput()).linux).not.toHaveProperty('rootfsPropagation')
  })
})

describe('the namespaces of containerSpec', () => {
  const { namespaces } = containerInput()
  const types = (spec: Spec) => spec.linux.namespaces.map(({ type }) => type).sort()
  const withPid = (mode: 'POD' | 'CONTAINER' | 'NODE' | 'TARGET', pid: string | null, podMode: typeof mode = 'POD') =>
    containerWith(
      { namespace_options: namespaceOptions({ pid: mode }) },
      { podConfig: podWith({ pid: podMode === 'TARGET' ? 'POD' : podMode }), namespaces: { ...namespaces, pid } },
    )

  it('are all those of the node in a pod that has none', () => {
    const podConfig = podWith({ network: 'NODE', ipc: 'NODE', pid: 'NODE' })
    const none = { net: null, ipc: null, uts: null, pid: null, user: null }
    expect(types(containerSpec(containerInput({ podConfig, namespaces: none })))).toEqual(['mount'])
  })

  it('have a cgroup namespace on v2 only', () => {
    expect(types(containerSpec(containerInput({ cgroupMode: 'v2' })))).toContain('cgroup')
    expect(types(containerSpec(containerInput({ cgroupMode: 'hybrid' })))).not.toContain('cgroup')
  })

  it('have the pid namespace that was asked for', () => {
    const own = containerSpec(withPid('CONTAINER', NEW_NAMESPACE))
    expect(own.linux.namespaces).toContainEqual({ type: 'pid' })
    const target = containerSpec(withPid('TARGET', '/proc/9/ns/pid'))
    expect(target.linux.namespaces).toContainEqual({ type: 'pid', path: '/proc/9/ns/pid' })
    expect(types(containerSpec(withPid('NODE', null, 'NODE')))).not.toContain('pid')
    expect(types(containerSpec(withPid('POD', null, 'NODE')))).not.toContain('pid')
    expect(containerSpec(withPid('POD', NEW_NAMESPACE, 'CONTAINER')).linux.namespaces).toContainEqual({ type: 'pid' })
  })

  it('are never those of the node by accident', () => {
    for (const input of [withPid('POD', null), withPid('TARGET', null), withPid('CONTAINER', null)]) {
      expect(() => containerSpec(input)).toThrow(coded('Internal', 'pid mode'))
    }
    for (const key of ['net', 'ipc', 'uts'] as const) {
      const input = containerInput({ namespaces: { ...namespaces, [key]: null } })
      expect(() => containerSpec(input)).toThrow(coded('Internal', 'the pod owns'))
    }
    expect(() => containerSpec(withPid('NODE', null))).toThrow(coded('InvalidArgument', 'namespace_options.pid'))
    expect(() => containerSpec(withPid('POD', '/proc/0/ns/pid'))).toThrow(coded('Internal', 'not a usable path'))
  })

  it('join the pod’s user namespace with the mappings of both', () => {
    const ids = [{ host_id: 100_000, container_id: 0, length: 65_536 }]
    const userns_options = { mode: 'POD', uids: ids, gids: ids } as const
    const options = namespaceOptions({ userns_options })
    const podConfig = podWith({ userns_options })
    const user = '/proc/7/ns/user'
    const input = containerWith({ namespace_options: options }, { podConfig, namespaces: { ...namespaces, user } })
    const spec = containerSpec(input)
    const mapping = { containerID: 0, hostID: 100_000, size: 65_536 }
    expect(spec.linux).toMatchObject({ uidMappings: [mapping], gidMappings: [mapping], maskedPaths: [] })
    expect(spec.linux.namespaces).toContainEqual({ type: 'user', path: user })
    expect(() => containerSpec({ ...input, podConfig: sandboxConfig() })).toThrow(coded('InvalidArgument', 'userns'))
    expect(() => containerSpec({ ...input, namespaces })).toThrow(coded('Internal', 'user mode POD'))
  })

  it('are all of the pod’s own where it has a user namespace', () => {
    const ids = [{ host_id: 1, container_id: 0, length: 1 }]
    const options = namespaceOptions({ network: 'NODE', userns_options: { mode: 'POD', uids: ids, gids: ids } })
    const input = containerWith(
      { namespace_options: options },
      { podConfig: podWith(options), namespaces: { ...namespaces, net: null, uts: null, user: '/proc/7/ns/user' } },
    )
    expect(() => containerSpec(input)).toThrow(coded('InvalidArgument', 'userns_options.mode'))
  })
})

describe('the devices of containerSpec', () => {
  const node = { path: '/dev/x', type: 'c', major: 1, minor: 3 } as const
  const rule = { allow: true, type: 'c', major: 1, minor: 3, access: 'r' } as const

  it('are made, and allowed after everything was denied', () => {
    const spec = containerSpec(containerInput({ devices: { nodes: [node], rules: [rule] } }))
    expect(spec.linux.devices).toEqual([node])
    expect(spec.linux.resources.devices).toEqual([{ allow: false, access: 'rwm' }, rule])
  })

  it('include those of CDI, which belong to the container’s user unless they say otherwise', () => {
    const cdi = {
      env: ['GPU=1', 'HOSTNAME=cdi'],
      devices: [node, { ...node, path: '/dev/y', uid: 7 }],
      deviceRules: [rule],
      mounts: [bind('/opt/driver')],
      hooks: { createRuntime: [{ path: '/usr/bin/hook' }] },
      additionalGids: [44],
      intelRdt: { closID: 'gold' },
    }
    const user = { uid: 5, gid: 6, additionalGids: [6] }
    const spec = containerSpec(containerInput({ cdi, user, devices: { nodes: [{ ...node, minor: 9 }], rules: [] } }))
    expect(spec.linux.devices).toEqual([
      { ...node, uid: 5, gid: 6 },
      { ...node, path: '/dev/y', uid: 7, gid: 6 },
    ])
    expect(spec.process.user.additionalGids).toEqual([6, 44])
    expect(spec.process.env.slice(1)).toEqual(['HOSTNAME=cdi', 'GPU=1'])
    expect(paths(spec)).toContain('/opt/driver')
    expect([spec.hooks, spec.linux.intelRdt]).toEqual([cdi.hooks, cdi.intelRdt])
    expect(spec.linux.resources.devices).toContainEqual(rule)
  })
})
