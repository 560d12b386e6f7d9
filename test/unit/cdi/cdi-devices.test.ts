import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CdiDevices } from '../../../src/cdi/cdi-devices.ts'
import type { HostPath } from '../../../src/host/host-paths.ts'
import { NO_EDITS } from '../../../src/oci/container-input.ts'
import { containerConfig } from '../oci/container-fixtures.ts'
import { coded } from '../oci/fixtures.ts'

let base: string
const low = () => join(base, 'low')
const high = () => join(base, 'high')
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'sandboxerd-cdi-'))
  await mkdir(low())
})
afterEach(async () => rm(base, { recursive: true }))

const device = (name: string, env: string) => ({ name, containerEdits: { env: [env] } })
const spec = (change: object = {}) => ({
  cdiVersion: '0.6.0',
  kind: 'vendor.com/gpu',
  devices: [device('0', 'GPU=0'), device('1', 'GPU=1')],
  ...change,
})
const write = (dir: string, name: string, content: unknown) =>
  writeFile(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content))

const look = (path: string): HostPath => {
  const isThere = path === '/dev/real'
  const facts = { major: 195, minor: 7, mode: 0o666, uid: 0, gid: 0 }
  return isThere ? { ...facts, path, kind: 'char' } : { ...facts, path: '', kind: 'missing' }
}
const resolve = (names: string[], annotations: Record<string, string> = {}) =>
  new CdiDevices(
    { specDirs: [low(), high()] },
    { hostPaths: (requests) => Promise.resolve(requests.map(({ path }) => look(path))) },
  ).resolve(containerConfig({ CDI_devices: names.map((name) => ({ name })), annotations }))

describe('CdiDevices.resolve', () => {
  it('changes nothing, and reads nothing, for a container without devices', async () => {
    await write(low(), 'a.json', 'not json')
    expect(await resolve([])).toBe(NO_EDITS)
  })

  it('knows devices from the field and from annotations, each once', async () => {
    await write(low(), 'a.json', spec({ containerEdits: { env: ['ALL=1'] } }))
    const annotations = { 'cdi.k8s.io/plugin': 'vendor.com/gpu=0,vendor.com/gpu=1', 'other/plugin': 'x' }
    const { env } = await resolve(['vendor.com/gpu=1'], annotations)
    expect(env).toEqual(['ALL=1', 'GPU=1', 'GPU=0'])
  })

  it('applies all edits, and fills in what they leave to the node', async () => {
    const containerEdits = {
      deviceNodes: [
        { path: '/dev/gpu', hostPath: '/dev/real', permissions: 'rw', gid: 44 },
        { path: '/dev/fixed', type: 'b', major: 1, minor: 2 },
      ],
      mounts: [{ hostPath: '/usr/lib/gpu', containerPath: '/usr/lib/gpu', options: ['ro'] }],
      hooks: [{ hookName: 'createContainer', path: '/usr/bin/hook', args: ['hook', '-x'], timeout: 5 }],
      additionalGids: [0, 44],
      intelRdt: { closID: 'gpu' },
    }
    await write(low(), 'a.json', spec({ devices: [{ name: 'all', containerEdits }] }))
    expect(await resolve(['vendor.com/gpu=all'])).toEqual({
      env: [],
      devices: [
        { path: '/dev/gpu', type: 'c', major: 195, minor: 7, fileMode: 0o666, gid: 44 },
        { path: '/dev/fixed', type: 'b', major: 1, minor: 2 },
      ],
      deviceRules: [
        { allow: true, type: 'c', major: 195, minor: 7, access: 'rw' },
        { allow: true, type: 'b', major: 1, minor: 2, access: 'rwm' },
      ],
      mounts: [{ destination: '/usr/lib/gpu', type: 'bind', source: '/usr/lib/gpu', options: ['rbind', 'ro'] }],
      hooks: { createContainer: [{ path: '/usr/bin/hook', args: ['hook', '-x'], timeout: 5 }] },
      additionalGids: [44],
      intelRdt: { closID: 'gpu' },
    })
  })

  it('lets the later directory count', async () => {
    await mkdir(high())
    await write(low(), 'a.json', spec())
    await write(high(), 'a.json', spec({ devices: [device('0', 'GPU=high')] }))
    expect((await resolve(['vendor.com/gpu=0', 'vendor.com/gpu=1'])).env).toEqual(['GPU=high', 'GPU=1'])
  })

  it('names what is not available, and what could not be read', async () => {
    await write(low(), 'good.json', spec())
    await write(low(), 'torn.json', '{"cdiVersion":')
    await write(low(), 'odd.json', spec({ kind: 'vendor.com/nic', surprise: 1 }))
    await write(low(), 'nvidia.yaml', 'cdiVersion: 0.6.0')
    await mkdir(join(low(), 'dir.json'))
    expect((await resolve(['vendor.com/gpu=0'])).env).toEqual(['GPU=0'])
    const missing = resolve(['vendor.com/nic=0'])
    await expect(missing).rejects.toEqual(coded('FailedPrecondition', 'use CDI device vendor.com/nic=0'))
    for (const file of ['torn.json', 'odd.json', 'nvidia.yaml', 'dir.json']) {
      await expect(missing).rejects.toEqual(coded('FailedPrecondition', file))
    }
  })

  it('refuses a device that two files of one directory describe, and one that the node lacks', async () => {
    await write(low(), 'a.json', spec())
    await write(low(), 'b.json', spec({ devices: [device('0', 'GPU=b')] }))
    await expect(resolve(['vendor.com/gpu=0'])).rejects.toEqual(coded('FailedPrecondition', 'several specs'))
    const containerEdits = { deviceNodes: [{ path: '/dev/unreal' }] }
    await write(low(), 'c.json', spec({ kind: 'vendor.com/nic', devices: [{ name: 'x', containerEdits }] }))
    await expect(resolve(['vendor.com/nic=x'])).rejects.toEqual(coded('FailedPrecondition', '/dev/unreal'))
  })

  it('refuses names that are none', async () => {
    for (const name of ['', 'gpu', 'vendor.com/gpu', 'vendor.com/gpu=', '../x=y', 'vendor.com/gpu=a b']) {
      await expect(resolve([name])).rejects.toEqual(coded('InvalidArgument', 'config.CDI_devices[0].name'))
      await expect(resolve([], { 'cdi.k8s.io/p': name })).rejects.toEqual(coded('InvalidArgument', 'cdi.k8s.io/p'))
    }
  })

  it('refuses specs beyond their bounds', async () => {
    await writeFile(join(low(), 'large.json'), Buffer.alloc(5 * 1024 * 1024, ' '))
    await expect(resolve(['vendor.com/gpu=0'])).rejects.toEqual(coded('FailedPrecondition', 'large.json: larger than'))
  })
})
