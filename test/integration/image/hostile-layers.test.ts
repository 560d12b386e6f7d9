import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ImageStore } from '../../../src/image/image-store.ts'
import { IMAGE_TOOLS, StoreUnderTest } from '../../support/image-store.ts'
import { pushImage } from '../../support/images.ts'
import { type Registry, startRegistry } from '../../support/registry.ts'
import type { TarEntry } from '../../support/tar.ts'

const never = new AbortController().signal
const missing = [...Object.values(IMAGE_TOOLS), '/usr/bin/docker-registry'].filter((path) => !existsSync(path))
const why = missing.length > 0 ? ` (skipped: there is no ${missing.join(' and no ')})` : ''

let registry: Registry
let place: StoreUnderTest
let store: ImageStore
let victim = ''

/** Everything in the directory that nobody may touch, with what a hostile archive could change of it. */
function facts(): string[] {
  return ['', ...readdirSync(victim, { recursive: true, encoding: 'utf8' })].toSorted().map((name) => {
    const path = join(victim, name)
    const { mode, uid, nlink, mtimeMs } = lstatSync(path)
    const content = statSync(path).isFile() ? readFileSync(path, 'utf8') : ''
    return [name, mode, uid, nlink, mtimeMs, content].join(' ')
  })
}

const up = '../'.repeat(20)
type Layers = (outside: string) => readonly (readonly TarEntry[])[]

const CORPUS: Readonly<Record<string, Layers>> = {
  'names that climb': (outside) => [
    [
      { path: `${up}${outside}/new`, content: 'x' },
      { path: '../new', content: 'x' },
      { path: 'a/../../new', content: 'x' },
    ],
  ],
  'absolute names': (outside) => [[{ path: `${outside}/file`, content: 'x', mode: 0o777 }]],
  'a file through a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: outside },
      { path: 'link/new', content: 'x' },
      { path: 'link/file', content: 'x' },
    ],
  ],
  'a file through a climbing link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: `${up}${outside}` },
      { path: 'link/file', content: 'x' },
    ],
  ],
  'a file through a link of a lower layer': (outside) => [
    [{ path: 'link', type: 'symlink', target: outside }],
    [{ path: 'link/file', content: 'x' }],
    [{ path: 'link/', type: 'directory', mode: 0o777 }],
  ],
  'a file in place of a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: `${outside}/file` },
      { path: 'link', content: 'x', mode: 0o4777, uid: 1000 },
    ],
  ],
  'a directory in place of a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: outside },
      { path: 'link', type: 'directory', mode: 0o777, uid: 1000 },
    ],
  ],
  'hard links to what is outside': (outside) => [
    [
      { path: 'hard', type: 'hardlink', target: `${outside}/file` },
      { path: 'hard', content: 'x' },
      { path: 'hard2', type: 'hardlink', target: `${up}${outside}/file` },
    ],
  ],
  'a hard link through a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: outside },
      { path: 'hard', type: 'hardlink', target: 'link/file', mode: 0o777 },
      { path: 'hard', content: 'x', mode: 0o777 },
    ],
  ],
  'a hard link to a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: `${outside}/file` },
      { path: 'hard', type: 'hardlink', target: 'link', mode: 0o777, uid: 1000 },
    ],
  ],
  'whiteouts through a link': (outside) => [
    [
      { path: 'link', type: 'symlink', target: outside },
      { path: 'link/.wh.file', content: '' },
      { path: 'link/.wh..wh..opq', content: '' },
    ],
  ],
  'whiteouts through a link of a lower layer': (outside) => [
    [{ path: 'link', type: 'symlink', target: outside }],
    [
      { path: 'link/.wh.file', content: '' },
      { path: 'link/.wh..wh..opq', content: '' },
    ],
  ],
  'whiteouts of what is above': () => [
    [{ path: '.wh..', content: '' }],
    [{ path: '.wh...', content: '' }],
    [{ path: 'a/.wh...', content: '' }],
  ],
  'attributes of the file system that layers lie in': (outside) => [
    [
      { path: 'd', type: 'directory', xattrs: { 'trusted.overlay.redirect': outside, 'trusted.overlay.opaque': 'y' } },
      {
        path: 'f',
        content: '',
        xattrs: { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': `${outside}/file` },
      },
    ],
  ],
  'a path that is deeper than any': () => [[{ path: `${'a/'.repeat(50_000)}file`, content: 'x' }]],
  'a path as deep as the kernel allows': () => [[{ path: `${'a/'.repeat(1900)}file`, content: 'x' }]],
  'a name that is too long': () => [[{ path: 'n'.repeat(300), content: 'x' }]],
  'a file in a file': () => [
    [
      { path: 'file', content: 'x' },
      { path: 'file/inner', content: 'x' },
    ],
  ],
}

describe.skipIf(why !== '')(`a hostile layer${why}`, () => {
  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterAll(async () => await registry?.[Symbol.asyncDispose]())
  beforeEach(async () => {
    place = await StoreUnderTest.make(registry)
    victim = join(place.dir, 'victim')
    await mkdir(join(victim, 'inner'), { recursive: true })
    await writeFile(join(victim, 'file'), 'precious', { mode: 0o600 })
    await writeFile(join(victim, 'inner/file'), 'precious', { mode: 0o600 })
    store = await place.open()
    await store.settled()
  })
  afterEach(async () => {
    await store[Symbol.asyncDispose]()
    expect(place.mounts()).toEqual([])
    await place[Symbol.asyncDispose]()
  })

  it.each(Object.entries(CORPUS))('changes nothing outside: %s', async (_, layers) => {
    const before = facts()
    const around = readdirSync(place.dir).toSorted()
    const pushed = await pushImage(registry, { name: 'hostile', layers: layers(victim) })
    await store.pull({ image: pushed.ref, auth: null }, never).catch((error: unknown) => {
      expect(String(error)).toContain('pull ')
    })
    expect(facts()).toEqual(before)
    expect(readdirSync(place.dir).toSorted()).toEqual(around)
    expect(existsSync('/new')).toBe(false)
    expect(existsSync(join(place.graph, 'overlay/new'))).toBe(false)
    await store.settled()
    await store.remove(pushed.ref, never)
    await store.settled()
    await store[Symbol.asyncDispose]()
    store = await place.open()
    await store.settled()
    expect(readdirSync(join(place.graph, 'overlay')).filter((name) => /^[0-9a-f]{64}$/.test(name))).toEqual([])
    expect(facts()).toEqual(before)
  })

  it('brings what images may hold: links, devices, attributes, set-user-id, whiteouts', async () => {
    const pushed = await pushImage(registry, {
      name: 'honest',
      layers: [
        [
          { path: 'gone', content: 'x' },
          { path: 'hidden', type: 'directory' },
          { path: 'hidden/file', content: 'x' },
        ],
        [
          { path: '.wh.gone', content: '' },
          { path: 'hidden', type: 'directory' },
          { path: 'hidden/.wh..wh..opq', content: '' },
          { path: 'suid', content: 'x', mode: 0o4755, uid: 7, xattrs: { 'user.note': 'n' } },
          { path: 'hard', type: 'hardlink', target: 'suid', mode: 0o4755, uid: 7 },
          { path: 'null', type: 'character', device: [1, 3], mode: 0o666 },
          { path: 'fifo', type: 'fifo' },
        ],
      ],
    })
    const id = await store.pull({ image: pushed.ref, auth: null }, never)
    const [upper = '', lower = ''] = store.lowerDirs(id)
    expect(existsSync(join(lower, 'gone'))).toBe(true)
    // overlayfs: a whiteout is a character device 0/0.
    expect(lstatSync(join(upper, 'gone')).isCharacterDevice()).toBe(true)
    expect(lstatSync(join(upper, 'gone')).rdev).toBe(0)
    expect(lstatSync(join(upper, 'null')).rdev).toBe(0x103)
    const suid = lstatSync(join(upper, 'suid'))
    expect({ mode: suid.mode & 0o7777, uid: suid.uid, nlink: suid.nlink }).toEqual({ mode: 0o4755, uid: 7, nlink: 2 })
    expect(lstatSync(join(upper, 'fifo')).isFIFO()).toBe(true)
  })

  it('of another image cannot stand under the id of a configuration', async () => {
    const honest = await pushImage(registry, { name: 'same', layers: [[{ path: 'file', content: 'honest' }]] })
    const other = await pushImage(registry, { name: 'other', layers: [[{ path: 'file', content: 'hostile' }]] })
    const base = `http://${registry.address}/v2/same`
    const accept = { headers: { accept: 'application/vnd.oci.image.manifest.v1+json' } }
    type Manifest = { layers: unknown[] }
    const read = async (name: string) =>
      (await (await fetch(`http://${registry.address}/v2/${name}/manifests/1`, accept)).json()) as Manifest
    const [own, foreign] = [await read('same'), await read('other')]
    await fetch(`${base}/blobs/uploads/?mount=${(foreign.layers[0] as { digest: string }).digest}&from=other`, {
      method: 'POST',
    })
    const put = await fetch(`${base}/manifests/2`, {
      method: 'PUT',
      headers: { 'content-type': accept.headers.accept },
      body: JSON.stringify({ ...own, layers: foreign.layers }),
    })
    expect(put.status).toBe(201)
    const ref = honest.ref.replace(/:1$/, ':2')
    await expect(store.pull({ image: ref, auth: null }, never)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining('its layers are not those that its configuration names') as unknown,
    })
    expect(store.list()).toEqual([])
    expect(await store.pull({ image: honest.ref, auth: null }, never)).toBe(honest.id)
    expect(await store.pull({ image: other.ref, auth: null }, never)).toBe(other.id)
  })
})
