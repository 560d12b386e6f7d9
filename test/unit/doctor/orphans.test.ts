import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isOwnId, newId } from '../../../src/core/ids.ts'
import { Sealer } from '../../../src/core/seal.ts'
import { orphanAddresses } from '../../../src/doctor/orphans/addresses.ts'
import { orphanCgroups } from '../../../src/doctor/orphans/cgroups.ts'
import { orphanDirectories, orphanExits } from '../../../src/doctor/orphans/directories.ts'
import { orphanNamespaces } from '../../../src/doctor/orphans/namespaces.ts'
import { orphanProcesses } from '../../../src/doctor/orphans/processes.ts'
import { type OrphanSource, orphanCheck } from '../../../src/doctor/orphans/orphans.ts'
import type { Records } from '../../../src/doctor/records.ts'
import { Directories } from '../../../src/lifecycle/directories.ts'
import { NetnsPins } from '../../../src/netns/netns.ts'
import type { Removal } from '../../../src/executor/removal.ts'
import type { Kernel } from '../../../src/host/kernel/kernel.ts'
import type { Libc } from '../../../src/host/libc.ts'
import type { Sandbox } from '../../../src/sandbox/sandbox.ts'

const NEVER = new AbortController().signal
const sealer = new Sealer(Buffer.alloc(32, 7))
const foreign = newId(new Sealer(Buffer.alloc(32, 8)))

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sbx-doctor-'))
})
afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

function recordsOf(known: readonly string[], sandboxes: readonly Partial<Sandbox>[] = []): Records {
  return {
    sandboxes: () => sandboxes as readonly Sandbox[],
    containers: () => [],
    isKnown: (id) => known.includes(id),
    isOwn: (id) => isOwnId(sealer, id),
    examine: async () => '',
  }
}

/** What is found, and what is found when all of it was released. */
async function examined(source: OrphanSource): Promise<{ found: string[]; left: string[] }> {
  const check = orphanCheck(source)
  const suspicions = await check.look(NEVER)
  for (const { repair } of suspicions) if (typeof repair !== 'string') await repair(NEVER)
  return {
    found: suspicions.map(({ subject }) => subject),
    left: (await check.look(NEVER)).map(({ subject }) => subject),
  }
}

describe('addresses of host-local', () => {
  async function reserve(address: string, text: string): Promise<string> {
    await mkdir(join(dir, 'net'), { recursive: true })
    await writeFile(join(dir, 'net', address), text)
    return join(dir, 'net', address)
  }
  const source = (records: Records): OrphanSource =>
    orphanAddresses({
      records,
      dataDirs: async () => [dir, join(dir, 'missing')],
      detach: () => Promise.reject(new Error('no plugin')),
      warn: () => undefined,
    })

  it('of ours without a pod are given back, and no others', async () => {
    const known = newId(sealer)
    const orphan = await reserve('10.1.0.2', `${newId(sealer)}\r\neth0`)
    await reserve('10.1.0.3', `${known}\r\neth0`)
    await reserve('10.1.0.4', `${foreign}\r\neth0`)
    await reserve('10.1.0.5', `${'b'.repeat(64)}\neth0`)
    await reserve('10.1.0.6', '')
    await reserve('last_reserved_ip.0', `${newId(sealer)}`)
    expect(await examined(source(recordsOf([known])))).toEqual({ found: [orphan], left: [] })
    expect(await readdir(join(dir, 'net'))).toHaveLength(5)
  })

  it('of a sandbox that is stopped and has given its network back are orphans, of one that runs never', async () => {
    const [stopped, running, owing] = [newId(sealer), newId(sealer), newId(sealer)]
    const orphan = await reserve('10.1.0.2', `${stopped}\r\neth0`)
    await reserve('10.1.0.3', `${running}\r\neth0`)
    await reserve('10.1.0.4', `${owing}\r\neth0`)
    const cni = { seq: 0, kind: 'cni', ownerId: owing, state: 'releasing' as const, record: {}, bootId: '' }
    const records = recordsOf(
      [stopped, running, owing],
      [
        { id: stopped, quarantined: '', entries: [], status: { state: 'STOPPED' } as Sandbox['status'] },
        { id: running, quarantined: '', entries: [], status: { state: 'RUNNING' } as Sandbox['status'] },
        { id: owing, quarantined: '', entries: [cni], status: { state: 'STOPPED' } as Sandbox['status'] },
      ],
    )
    expect((await examined(source(records))).found).toEqual([orphan])
  })
})

describe('cgroups', () => {
  it('named after ids of ours that nobody has are removed, wherever they are, and no others', async () => {
    const [orphan, scope, known] = [newId(sealer), newId(sealer), newId(sealer)]
    const paths = [
      `kubepods/pod1/${orphan}`,
      `system.slice/sandboxerd-${scope}.scope/container`,
      `kubepods/pod1/${known}`,
      `kubepods/pod1/${foreign}`,
      `system.slice/cri-containerd-${newId(sealer)}.scope`,
    ]
    for (const path of paths) await mkdir(join(dir, path), { recursive: true })
    const source = orphanCgroups({ records: recordsOf([known]), mounts: [dir, join(dir, 'missing')] })
    const { found, left } = await examined(source)
    expect(found.toSorted()).toEqual([`/kubepods/pod1/${orphan}`, `/system.slice/sandboxerd-${scope}.scope`].toSorted())
    expect(left).toEqual([])
    expect(existsSync(join(dir, 'kubepods/pod1', foreign))).toBe(true)
  })
})

describe('network namespaces', () => {
  const kernel = { unpin: async (path: string) => rm(path) } as unknown as Kernel

  it('in a directory of many are ours by their ids', async () => {
    const [orphan, known] = [newId(sealer), newId(sealer)]
    for (const name of [`sbx-${orphan}`, `sbx-${known}`, `sbx-${foreign}`, 'cni-1', 'sbx-x']) {
      await writeFile(join(dir, name), '')
    }
    const netns = new NetnsPins({ directory: dir }, { kernel })
    const source = orphanNamespaces({ isDirectoryOurs: false }, { records: recordsOf([known]), netns })
    expect(await examined(source)).toEqual({ found: [join(dir, `sbx-${orphan}`)], left: [] })
    expect(await readdir(dir)).toHaveLength(4)
  })

  it('in a directory of our own are ours by their place', async () => {
    await writeFile(join(dir, `sbx-${foreign}`), '')
    const netns = new NetnsPins({ directory: dir }, { kernel })
    const source = orphanNamespaces({ isDirectoryOurs: true }, { records: recordsOf([]), netns })
    expect((await examined(source)).found).toEqual([join(dir, `sbx-${foreign}`)])
  })
})

describe('directories and exit statuses', () => {
  it('of nobody are removed; what holds a checkpoint, and what is not named like ours, stays', async () => {
    const [orphan, known, record] = [newId(sealer), newId(sealer), newId(sealer)]
    for (const name of [orphan, known, record, 'lost+found']) await mkdir(join(dir, name))
    await writeFile(join(dir, record, 'checkpoint.json'), '{')
    const directories = new Directories({ parents: [dir] }, { remove: (path) => rm(path, { recursive: true }) })
    const source = orphanDirectories('sandbox', { records: recordsOf([known]), directories })
    expect(await examined(source)).toEqual({ found: [join(dir, orphan)], left: [] })
    expect((await readdir(dir)).toSorted()).toEqual([known, record, 'lost+found'].toSorted())
  })

  it('exit statuses of nobody are removed', async () => {
    const [orphan, known] = [newId(sealer), newId(sealer)]
    for (const name of [orphan, known, 'other']) await writeFile(join(dir, name), '0')
    const source = orphanExits(dir, { records: recordsOf([known]) })
    expect(await examined(source)).toEqual({ found: [join(dir, orphan)], left: [] })
    expect(await readdir(dir)).toHaveLength(2)
  })
})

describe('containers', () => {
  it('that a runtime knows are found also where the configuration has that runtime since a moment ago', async () => {
    const [orphan, known] = [newId(sealer), newId(sealer)]
    const [before, added] = ['a', 'b'].map((name) => ({ path: '/bin/x', root: join(dir, name), systemdCgroup: false }))
    if (!before || !added) throw new Error('unreachable')
    for (const id of [orphan, known]) await mkdir(join(added.root, id), { recursive: true })
    const runtimes = [before]
    const deps = { records: recordsOf([known]), removal: {} as Removal, libc: {} as Libc }
    const left = () => ({ exitsDir: join(dir, 'exits'), bundleParents: [join(dir, 'bundles')], runtimes, bootId: '' })
    const check = orphanCheck(orphanProcesses(left, deps))
    expect(await check.look(NEVER)).toEqual([])
    runtimes.push(added)
    expect((await check.look(NEVER)).map(({ ownerId, subject }) => [ownerId, subject])).toEqual([
      [orphan, `state of /bin/x in ${added.root}`],
    ])
  })
})
