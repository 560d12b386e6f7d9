import { describe, expect, it } from 'vitest'
import { type MountDeps, type MountOptions, planMounts } from '../../../src/container/mounts.ts'
import type { HostPath, HostPathRequest } from '../../../src/host/host-paths.ts'
import { containerConfig, hostMount } from '../oci/container-fixtures.ts'
import { coded } from '../oci/fixtures.ts'

const MOUNT_INFO = [
  '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw',
  '30 22 0:5 / /private rw - tmpfs tmpfs rw',
  '31 22 0:6 / /slave rw master:7 - tmpfs tmpfs rw',
  '32 30 0:7 / /private/a\\040b rw shared:9 master:8 - tmpfs tmpfs rw',
].join('\n')

function node(more: Partial<MountDeps> = {}) {
  const asked: HostPathRequest[] = []
  const deps: MountDeps = {
    hostPaths: (requests) => {
      asked.push(...requests)
      return Promise.resolve(requests.map(({ path }) => found(path)))
    },
    mountInfo: () => Promise.resolve(MOUNT_INFO),
    resolveInRoot: ({ root, path }) => Promise.resolve(`${root}/resolved${path}`),
    ...more,
  }
  return { asked, deps }
}
const found = (path: string): HostPath => {
  const facts = { major: 0, minor: 0, mode: 0o755, uid: 0, gid: 0 }
  if (path === '/gone') return { ...facts, path: '', kind: 'missing' }
  return { ...facts, path: path === '/link' ? '/private/target' : path, kind: 'directory' }
}
const options: MountOptions = {
  features: { recursiveReadOnly: true, idmap: true },
  mountLabel: '',
  imagePaths: new Map([['img', '/layers/img']]),
}
type Change = Parameters<typeof hostMount>[0]
const plan = (changes: Change[], more: Partial<MountOptions> = {}, { deps } = node()) =>
  planMounts(containerConfig({ mounts: changes.map(hostMount) }), { ...options, ...more }, deps)
const image = { image: 'img', annotations: {}, user_specified_image: '', runtime_handler: '', image_ref: '' }

describe('planMounts', () => {
  it('binds the host path, links resolved, and has it made when it is missing', async () => {
    const machine = node()
    const { mounts, relabel } = await plan([{ host_path: '/link', readonly: true }], {}, machine)
    expect(mounts).toEqual([
      { destination: '/data', type: 'bind', source: '/private/target', options: ['rbind', 'rprivate', 'ro'] },
    ])
    expect(relabel).toEqual([])
    expect(machine.asked).toEqual([{ path: '/link', create: true }])
  })

  it('asks the node nothing for a container without mounts', async () => {
    const machine = node({ hostPaths: () => Promise.reject(new Error('asked')) })
    expect(await plan([], {}, machine)).toEqual({ mounts: [], relabel: [] })
  })

  it('lets the last of several mounts on one path count', async () => {
    const machine = node()
    const { mounts } = await plan([{ host_path: '/one' }, { container_path: '/data/', host_path: '/two' }], {}, machine)
    expect(mounts.map(({ destination, source }) => [destination, source])).toEqual([['/data', '/two']])
    expect(machine.asked).toHaveLength(1)
  })

  it('lets mounts through only where the node’s mount does', async () => {
    const down = { propagation: 'PROPAGATION_HOST_TO_CONTAINER' } as const
    const both = { propagation: 'PROPAGATION_BIDIRECTIONAL' } as const
    const access = async (change: Change) => (await plan([change])).mounts[0]?.options[1]
    expect(await access({ ...down, host_path: '/srv' })).toBe('rslave')
    expect(await access({ ...down, host_path: '/slave/x' })).toBe('rslave')
    expect(await access({ ...both, host_path: '/private/a b/c' })).toBe('rshared')
    expect(await access({ ...both, host_path: '/privateer' })).toBe('rshared')
    const why = coded('FailedPrecondition', 'config.mounts[0].propagation: /private/target is on the mount /private,')
    await expect(plan([{ ...down, host_path: '/link' }])).rejects.toEqual(why)
    await expect(plan([{ ...both, host_path: '/slave' }])).rejects.toEqual(coded('FailedPrecondition', '/slave'))
    const unknown = 7 as unknown as 'PROPAGATION_PRIVATE'
    await expect(plan([{ propagation: unknown }])).rejects.toEqual(coded('InvalidArgument', 'propagation'))
  })

  it('makes mounts read-only with all that is below them, where the runtime can', async () => {
    const recursive = { readonly: true, recursive_read_only: true }
    expect((await plan([recursive])).mounts[0]?.options).toEqual(['rbind', 'rprivate', 'rro'])
    const features = { recursiveReadOnly: false, idmap: false }
    await expect(plan([recursive], { features })).rejects.toEqual(coded('FailedPrecondition', 'recursive_read_only'))
    await expect(plan([{ ...recursive, readonly: false }])).rejects.toEqual(coded('InvalidArgument', 'needs readonly'))
    await expect(plan([{ ...recursive, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }])).rejects.toEqual(
      coded('InvalidArgument', 'private'),
    )
  })

  it('maps ids, where the runtime can', async () => {
    const ids = [{ host_id: 1000, container_id: 0, length: 10 }]
    const mapped = { uidMappings: ids, gidMappings: ids }
    const mapping = [{ hostID: 1000, containerID: 0, size: 10 }]
    expect((await plan([mapped])).mounts[0]).toMatchObject({ uidMappings: mapping, gidMappings: mapping })
    const features = { recursiveReadOnly: true, idmap: false }
    await expect(plan([mapped], { features })).rejects.toEqual(coded('FailedPrecondition', 'uidMappings'))
    await expect(plan([{ uidMappings: ids }])).rejects.toEqual(coded('InvalidArgument', 'gidMappings'))
    const wide = [{ host_id: 2 ** 32 - 1, container_id: 0, length: 2 }]
    await expect(plan([{ ...mapped, uidMappings: wide }])).rejects.toEqual(coded('InvalidArgument', 'uidMappings[0]'))
  })

  it('mounts images read-only and not to be executed from', async () => {
    const mounts = async (image_sub_path: string) =>
      (await plan([{ host_path: '', image, image_sub_path }])).mounts.map(({ source, options: given }) => [
        source,
        given,
      ])
    const fixed = ['rbind', 'rprivate', 'ro', 'nosuid', 'nodev', 'noexec']
    expect(await mounts('')).toEqual([['/layers/img', fixed]])
    expect(await mounts('a/b')).toEqual([['/layers/img/resolved/a/b', fixed]])
    for (const path of ['/a', '../a', 'a/../../b', 'a\nb']) {
      await expect(mounts(path)).rejects.toEqual(coded('InvalidArgument', 'image_sub_path'))
    }
    await expect(plan([{ image }])).rejects.toEqual(coded('InvalidArgument', 'host_path'))
    await expect(plan([{ image_sub_path: 'a' }])).rejects.toEqual(coded('InvalidArgument', 'needs image'))
  })

  it('passes on options that only take something away', async () => {
    expect((await plan([{ mount_options: ['noexec', 'nosuid'] }])).mounts[0]?.options.slice(3)).toEqual([
      'noexec',
      'nosuid',
    ])
    for (const option of ['dev', 'rshared', 'upperdir=/x', 'idmap']) {
      await expect(plan([{ mount_options: [option] }])).rejects.toEqual(coded('InvalidArgument', 'mount_options'))
    }
  })

  it('refuses paths that are none before it makes any', async () => {
    const machine = node()
    const wrong: Change[] = [
      { container_path: '' },
      { container_path: '/' },
      { container_path: '/a/..' },
      { container_path: 'data' },
      { container_path: '/a\nb' },
      { host_path: '' },
      { host_path: 'srv' },
      { host_path: '/a\0b' },
    ]
    for (const change of wrong) {
      await expect(plan([{}, change], {}, machine)).rejects.toEqual(coded('InvalidArgument', 'config.mounts[1].'))
    }
    expect(machine.asked).toEqual([])
    await expect(plan([{ host_path: '/gone' }])).rejects.toEqual(coded('FailedPrecondition', '/gone'))
  })

  it('has files relabelled where there are labels, but never the node’s own', async () => {
    const labelled = { mountLabel: 'system_u:object_r:container_file_t:s0' }
    const relabel = (host_path: string) => plan([{ host_path, selinux_relabel: true }], labelled)
    expect((await relabel('/var/lib/pods/x')).relabel).toEqual(['/var/lib/pods/x'])
    expect((await plan([{}], labelled)).relabel).toEqual([])
    for (const path of ['/', '/etc', '/etc/x', '/usr/share/x', '/var', '/home', '/lib64/x', '/proc/1']) {
      await expect(relabel(path)).rejects.toEqual(coded('InvalidArgument', 'selinux_relabel'))
    }
  })
})
