import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  describeContainer,
  encodeManifest,
  MANIFEST,
  matchContainers,
  type PodManifest,
  readManifest,
} from '../../../src/container/checkpoint/manifest.ts'
import type { ContainerConfig, ContainerMetadata } from '../../../src/container/types.ts'
import { Sealer } from '../../../src/core/seal.ts'
import { containerConfig } from '../../support/fake-containers.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { BROKEN_ARCHIVES, TREACHEROUS_TREES } from '../../support/hostile-archives.ts'
import { tar, type TarEntry } from '../../support/tar.ts'

const LIMITS = { maxMembers: 100, maxBytes: 1_000_000 }
const sealer = new Sealer(Buffer.alloc(32, 7))
const CONTENT = 'pages'
const IMAGE = 'containers/0/checkpoint/pages-1.img'
const DIFF = 'containers/0/rootfs-diff.tar'
let directory = ''

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sandboxerd-manifest-'))
})
afterAll(async () => rm(directory, { recursive: true }))

function metadata(config: ContainerConfig): ContainerMetadata {
  return {
    id: 'a'.repeat(64),
    name: 'k8s_main',
    sandboxId: 'b'.repeat(64),
    config,
    imageId: 'sha256:1',
    imageRef: 'sha256:1',
    mountedImageIds: [],
    logPath: '',
    stopSignal: 'SIGTERM',
    createdAtNs: 1n,
  }
}

const config = containerConfig({
  command: ['run'],
  envs: [{ key: 'A', value: Buffer.from([0xff]) }],
  mounts: [mount('/data', '/host/1')],
})

function mount(container_path: string, host_path: string): ContainerConfig['mounts'][number] {
  return {
    container_path,
    host_path,
    readonly: true,
    selinux_relabel: false,
    propagation: 'PROPAGATION_PRIVATE',
    uidMappings: [],
    gidMappings: [],
    recursive_read_only: false,
    image: null,
    image_sub_path: '',
    mount_options: [],
  }
}

function manifestText(key = sealer, files = [IMAGE, DIFF]): string {
  return encodeManifest(
    {
      runtimePath: '/usr/sbin/runc',
      sandboxId: 'b'.repeat(64),
      sandboxConfig: podConfig(),
      containers: [describeContainer(metadata(config))],
      files: files.map((path) => ({ path, sizeBytes: CONTENT.length, sha256: '0'.repeat(64) })),
    },
    key,
  )
}

const FIRST: TarEntry = { path: MANIFEST, content: manifestText() }
const MEMBERS: readonly TarEntry[] = [
  { path: 'containers/', type: 'directory' },
  { path: 'containers/0/', type: 'directory' },
  { path: 'containers/0/checkpoint/', type: 'directory' },
  { path: IMAGE, content: CONTENT },
  { path: DIFF, content: CONTENT },
]

let files = 0
async function read(bytes: Buffer): Promise<PodManifest> {
  const path = join(directory, `${files++}.tar`)
  await writeFile(path, bytes)
  return readManifest(path, sealer, LIMITS)
}

describe('readManifest', () => {
  it('takes what was written', async () => {
    const manifest = await read(tar([FIRST, ...MEMBERS]))
    expect(manifest).toMatchObject({ version: 1, runtimePath: '/usr/sbin/runc', containers: [{ name: 'main' }] })
  })

  it('refuses what another node has sealed, or nobody', async () => {
    const foreign = manifestText(new Sealer(Buffer.alloc(32, 8)))
    for (const content of [foreign, manifestText().replace('runc', 'crun'), '{}', 'null', '', '{"data":{}}']) {
      const attempt = read(tar([{ path: MANIFEST, content }, ...MEMBERS]))
      await expect(attempt).rejects.toMatchObject({ code: 'FailedPrecondition' })
    }
  })

  it.each<[string, readonly TarEntry[]]>([
    ['a member that is missing', [FIRST, ...MEMBERS.slice(0, -1)]],
    ['a member more', [FIRST, ...MEMBERS, { path: 'containers/0/checkpoint/more.img', content: 'x' }]],
    ['a member of another size', [FIRST, ...MEMBERS.slice(0, -1), { path: DIFF, content: 'x' }]],
    ['a member twice', [FIRST, ...MEMBERS, { path: IMAGE, content: CONTENT }]],
    [
      'a link in place of a file',
      [FIRST, ...MEMBERS.slice(0, -1), { path: DIFF, type: 'symlink', target: '/etc/shadow' }],
    ],
    [
      'a hard link in place of a file',
      [FIRST, ...MEMBERS.slice(0, -1), { path: DIFF, type: 'hardlink', target: IMAGE }],
    ],
    ['a directory elsewhere', [FIRST, ...MEMBERS, { path: 'etc', type: 'directory' }]],
    ['a manifest that does not come first', [...MEMBERS, FIRST]],
    ['nothing', []],
  ])('refuses %s', async (_why, entries) => {
    await expect(read(tar(entries))).rejects.toMatchObject({ code: 'DataLoss' })
  })

  it('refuses what is broken or treacherous, also behind a manifest that is right', async () => {
    const first = tar([FIRST]).subarray(0, -1024)
    const hostile = [
      ...BROKEN_ARCHIVES.map(({ bytes }) => bytes),
      ...TREACHEROUS_TREES.map(([, entries]) => tar(entries)),
    ]
    for (const bytes of hostile) {
      await expect(read(bytes)).rejects.toMatchObject({ code: 'DataLoss' })
      await expect(read(Buffer.concat([first, bytes]))).rejects.toMatchObject({ code: 'DataLoss' })
    }
  })
})

describe('matchContainers', () => {
  const manifest = (): Promise<PodManifest> => read(tar([FIRST, ...MEMBERS]))
  const match = async (live: ContainerConfig[], imageId = 'sha256:1', runtimePath = '/usr/sbin/runc') =>
    matchContainers(
      await manifest(),
      { config: podConfig(), runtimePath },
      live.map((container) => ({ config: container, imageId })),
    )

  it('takes the same container with other places, limits, labels and logs', async () => {
    const other = {
      ...config,
      mounts: [mount('/data', '/host/2')],
      labels: { a: 'b' },
      annotations: { c: 'd' },
      log_path: 'x.log',
      metadata: { name: 'main', attempt: 5 },
    }
    expect(await match([other])).toEqual([0])
  })

  it.each<[string, Partial<ContainerConfig>]>([
    ['command', { command: ['other'] }],
    ['args', { args: ['more'] }],
    ['working_dir', { working_dir: '/x' }],
    ['envs', { envs: [{ key: 'A', value: Buffer.from([0xfe]) }] }],
    ['tty', { tty: true }],
    ['devices', { devices: [{ container_path: '/dev/x', host_path: '/dev/x', permissions: 'rwm' }] }],
    ['CDI_devices', { CDI_devices: [{ name: 'v/c=d' }] }],
    ['mounts', { mounts: [{ ...mount('/data', '/host/1'), readonly: false }] }],
    ['mounts', { mounts: [] }],
    ['metadata.name', { metadata: { name: 'stranger', attempt: 0 } }],
  ])('refuses another %s', async (field, change) => {
    const attempt = match(field === 'metadata.name' ? [config, { ...config, ...change }] : [{ ...config, ...change }])
    const place = field === 'metadata.name' ? 1 : 0
    await expect(attempt).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: expect.stringContaining(`container_configs[${place}].${field}: `) as string,
    })
  })

  it('refuses another image, another runtime, a container too few or twice', async () => {
    await expect(match([config], 'sha256:2')).rejects.toThrow('container_configs[0].image: is sha256:2')
    await expect(match([config], 'sha256:1', '/usr/bin/crun')).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(match([])).rejects.toThrow('container_configs: there is none for the container main')
    await expect(match([config, config])).rejects.toThrow('container_configs[1].metadata.name: main is there twice')
  })
})
