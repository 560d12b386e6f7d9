import { describe, expect, it } from 'vitest'
import { type DeviceDeps, planDevices } from '../../../src/container/devices.ts'
import type { HostPath } from '../../../src/host/host-paths.ts'
import { containerConfig, containerContext } from '../oci/container-fixtures.ts'
import { coded } from '../oci/fixtures.ts'

/** Paths of the node: a device with its numbers, a directory with its names, or where a link leads. */
const TREE: Readonly<Record<string, readonly [HostPath['kind'], number, number] | readonly string[] | string>> = {
  '/dev': ['null', 'sda', 'core', 'console', 'ptmx', 'pts', 'shm', 'mqueue', 'snd', 'initctl', 'log'],
  '/dev/null': ['char', 1, 3],
  '/dev/sda': ['block', 8, 0],
  '/dev/core': '/proc/kcore',
  '/dev/console': ['char', 5, 1],
  '/dev/snd': ['seq', 'by-path'],
  '/dev/snd/seq': ['char', 116, 1],
  '/dev/snd/by-path': [],
  '/dev/initctl': ['fifo', 0, 0],
  '/dev/log': ['socket', 0, 0],
  '/dev/disk': '/dev/sda',
}

function look(path: string): HostPath {
  const facts = { path, major: 0, minor: 0, mode: 0o660, uid: 0, gid: 6 }
  const entry = TREE[path]
  if (entry === undefined) return { ...facts, path: '', kind: 'missing' }
  if (typeof entry === 'string') return look(entry)
  const [kind, major, minor] = entry
  if (typeof major !== 'number' || typeof minor !== 'number') return { ...facts, kind: 'directory' }
  return { ...facts, kind: kind as HostPath['kind'], major, minor }
}
const deps: DeviceDeps = {
  hostPaths: (requests) => Promise.resolve(requests.map(({ path }) => look(path))),
  listDirectory: (path) => Promise.resolve((TREE[path] ?? []) as readonly string[]),
}
const plan = (devices: [host: string, container?: string, permissions?: string][], privileged = false) =>
  planDevices(
    containerConfig({
      devices: devices.map(([host_path, container_path = '', permissions = '']) => ({
        host_path,
        container_path,
        permissions,
      })),
      linux: { resources: null, security_context: containerContext({ privileged }) },
    }),
    deps,
  )

describe('planDevices', () => {
  it('gives what is asked for, under the name and with the permissions that are asked for', async () => {
    expect(await plan([['/dev/disk', '/dev/xvda', 'r'], ['/dev/null']])).toEqual({
      nodes: [
        { path: '/dev/xvda', type: 'b', major: 8, minor: 0, fileMode: 0o660, uid: 0, gid: 6 },
        { path: '/dev/null', type: 'c', major: 1, minor: 3, fileMode: 0o660, uid: 0, gid: 6 },
      ],
      rules: [
        { allow: true, type: 'b', major: 8, minor: 0, access: 'r' },
        { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
      ],
    })
  })

  it('gives the devices of a directory', async () => {
    const { nodes } = await plan([['/dev/snd', '/dev/sound']])
    expect(nodes.map(({ path }) => path)).toEqual(['/dev/sound/seq'])
  })

  it('gives a privileged container the devices of the node, but no links, terminals and sockets', async () => {
    const { nodes } = await plan([['/dev/sda', '/dev/own']], true)
    expect(nodes.map(({ path }) => path).sort()).toEqual([
      '/dev/initctl',
      '/dev/null',
      '/dev/own',
      '/dev/sda',
      '/dev/snd/seq',
    ])
  })

  it('refuses what the node does not have, and what is not a path or a permission', async () => {
    for (const path of ['/dev/missing', '/dev/log']) {
      await expect(plan([['/dev/null'], [path]])).rejects.toEqual(
        coded('FailedPrecondition', `config.devices[1].host_path: ${path}`),
      )
    }
    await expect(plan([['dev/null']])).rejects.toEqual(coded('InvalidArgument', 'devices[0].host_path'))
    await expect(plan([['/dev/../etc']])).rejects.toEqual(coded('InvalidArgument', 'devices[0].host_path'))
    await expect(plan([['/dev/null', 'null']])).rejects.toEqual(coded('InvalidArgument', 'devices[0].container_path'))
    for (const permissions of ['x', 'rr', 'rwmr', 'r w']) {
      await expect(plan([['/dev/null', '', permissions]])).rejects.toEqual(coded('InvalidArgument', 'permissions'))
    }
  })
})
