import { errorMessage } from '../../../src/core/errors.ts'
import { existsSync, readdirSync } from 'node:fs'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ImageStore } from '../../../src/image/image-store.ts'
import { IMAGE_TOOLS, StoreUnderTest } from '../../support/image-store.ts'
import { busyboxLayer, pushImage } from '../../support/images.ts'
import { type Registry, REGISTRY_USER, startRegistry } from '../../support/registry.ts'
import { startTokenRegistry } from '../../support/token-registry.ts'

const never = new AbortController().signal
const programs = [...Object.values(IMAGE_TOOLS), '/usr/bin/docker-registry', '/bin/busybox']
const missing = programs.filter((path) => !existsSync(path))
const why = missing.length > 0 ? ` (skipped: there is no ${missing.join(' and no ')})` : ''

const NO_AUTH = { username: '', password: '', auth: '', server_address: '', identity_token: '', registry_token: '' }

let registry: Registry
let place: StoreUnderTest
let store: ImageStore

async function pull(image: string): Promise<string> {
  return store.pull({ image, auth: null }, never)
}

/** How often the registry was asked for something since the mark. */
function asked(what: RegExp, since = 0): number {
  return registry.log().slice(since).match(new RegExp(what, 'g'))?.length ?? 0
}

function layerDirs(): string[] {
  return readdirSync(join(place.graph, 'overlay')).filter((name) => /^[0-9a-f]{64}$/.test(name))
}

const small = (text: string) => [{ path: 'file', content: text }]

describe.skipIf(why !== '')(`ImageStore${why}`, () => {
  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterAll(async () => await registry?.[Symbol.asyncDispose]())
  beforeEach(async () => {
    place = await StoreUnderTest.make(registry)
    store = await place.open()
  })
  afterEach(async () => {
    await store.settled()
    await store[Symbol.asyncDispose]()
    expect(place.mounts()).toEqual([])
    expect(readdirSync(join(place.graph, 'tmp'))).toEqual([])
    expect(readdirSync(join(place.dir, 'state/images-auth'))).toEqual([])
    await place[Symbol.asyncDispose]()
  })

  it.each(['oci', 'docker'] as const)('pulls an image in %s format by its tag', async (format) => {
    const config = { Cmd: ['/bin/sh'], User: '1000:1000', Env: ['A=b'], StopSignal: 'SIGQUIT', Labels: { x: 'y' } }
    const pushed = await pushImage(registry, { name: `one-${format}`, format, config })
    const id = await pull(pushed.ref)
    if (pushed.id !== '') expect(id).toBe(pushed.id)
    const view = store.get(pushed.ref)
    expect(view).toMatchObject({
      id,
      repoTags: [pushed.ref],
      repoDigests: [pushed.digestRef],
      pinned: false,
      config: { cmd: ['/bin/sh'], user: '1000:1000', env: ['A=b'], stopSignal: 'SIGQUIT', labels: { x: 'y' } },
    })
    expect(view?.sizeBytes).toBeGreaterThan(1_000_000n)
    for (const name of [id, id.slice(7), id.slice(7, 19), pushed.digestRef]) expect(store.get(name)?.id).toBe(id)
    expect(store.get(id.slice(7, 18))).toBeUndefined()
    const [lower = '', ...others] = store.lowerDirs(id)
    expect(others).toEqual([])
    expect(existsSync(join(lower, 'bin/busybox'))).toBe(true)
    expect(store.list().map((one) => one.id)).toEqual([id])
    expect(store.list('nothing')).toEqual([])
  })

  it.each(['zstd', 'none'] as const)('unpacks layers with compression %s', async (compression) => {
    const pushed = await pushImage(registry, { name: `packed-${compression}`, layers: [small('x')], compression })
    expect(await pull(pushed.ref)).toBe(pushed.id)
  })

  it('reports the digest of an index, and pulls the image for this machine', async () => {
    const pushed = await pushImage(registry, { name: 'multi', architectures: ['s390x', 'amd64', 'arm64'] })
    expect(await pull(pushed.ref)).toBe(pushed.id)
    expect(store.get(pushed.ref)?.repoDigests).toEqual([pushed.digestRef])
    const mark = registry.log().length
    expect(await pull(pushed.digestRef)).toBe(pushed.id)
    expect(registry.log().length).toBe(mark)
  })

  it('asks only for the manifest when the image is there', async () => {
    const pushed = await pushImage(registry, { name: 'again', layers: [small('again')] })
    await pull(pushed.ref)
    const mark = registry.log().length
    await pull(pushed.ref)
    expect(asked(/GET \/v2\/again\/manifests/, mark)).toBeGreaterThan(0)
    expect(asked(/GET \/v2\/again\/blobs/, mark)).toBe(0)
  })

  it('downloads once what is pulled twice at once, and each shared layer once', async () => {
    const shared = [{ path: 'big', content: Buffer.alloc(4_000_000, 'shared') }]
    const one = await pushImage(registry, { name: 'twice', layers: [shared, small('one')] })
    const other = await pushImage(registry, { name: 'other', layers: [shared, small('other')] })
    const mark = registry.log().length
    const ids = await Promise.all([pull(one.ref), pull(one.ref), pull(one.ref)])
    expect(new Set(ids)).toEqual(new Set([one.id]))
    expect(asked(/"GET \/v2\/twice\/blobs/, mark)).toBe(3)
    await Promise.all([pull(other.ref), pull(other.digestRef), pull(one.ref)])
    expect(store.list().map(({ id }) => id)).toEqual([one.id, other.id].toSorted())
    expect(layerDirs()).toHaveLength(3)
    expect(store.lowerDirs(one.id)[1]).toBe(store.lowerDirs(other.id)[1])
  })

  it('moves a tag, and leaves the old image its digest', async () => {
    const old = await pushImage(registry, { name: 'moving', layers: [small('old')] })
    await pull(old.ref)
    const young = await pushImage(registry, { name: 'moving', layers: [small('young')] })
    await pull(young.ref)
    expect(store.get(old.id)).toMatchObject({ repoTags: [], repoDigests: [old.digestRef] })
    expect(store.get(young.id)).toMatchObject({ repoTags: [young.ref], repoDigests: [young.digestRef] })
    // So it is after a restart.
    const before = store.list()
    await store[Symbol.asyncDispose]()
    store = await place.open()
    await store.settled()
    expect(store.list()).toEqual(before)
  })

  it('removes an image with all its references and layers', async () => {
    const pushed = await pushImage(registry, { name: 'gone', layers: [small('gone')] })
    const same = await pushImage(registry, { name: 'gone', tag: '2', layers: [small('gone')] })
    await pull(pushed.ref)
    await pull(same.ref)
    expect(store.get(pushed.id)?.repoTags).toEqual([pushed.ref, same.ref])
    const held = store.hold(same.ref)
    await expect(store.remove(pushed.ref, never)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    held[Symbol.dispose]()
    await store.remove(pushed.ref, never)
    await store.remove(pushed.ref, never)
    expect(store.list()).toEqual([])
    expect(layerDirs()).toEqual([])
    expect(() => store.hold(pushed.ref)).toThrow(expect.objectContaining({ code: 'NotFound' }))
  })

  it('keeps what a container uses and what is pinned', async () => {
    const pushed = await pushImage(registry, { name: 'used', layers: [small('used')] })
    const pinned = await pushImage(registry, { name: 'pinned', layers: [small('pinned')] })
    await store[Symbol.asyncDispose]()
    store = await place.open({ pinned: [pinned.ref] }, { usedBy: (id) => (id === pushed.id ? ['c1'] : []) })
    await pull(pushed.ref)
    await pull(pinned.ref)
    await expect(store.remove(pushed.ref, never)).rejects.toThrow('container c1 uses it')
    await expect(store.remove(pinned.id, never)).rejects.toThrow('pinned')
    expect(store.get(pinned.ref)?.pinned).toBe(true)
  })

  it('goes on with a pull when one who waits gives up, and ends it when all do', async () => {
    const big = [{ path: 'big', content: Buffer.alloc(30_000_000, 'big') }]
    const pushed = await pushImage(registry, { name: 'patience', layers: [big] })
    const request = { image: pushed.ref, auth: null }
    const impatient = expect(store.pull(request, AbortSignal.timeout(30))).rejects.toThrow()
    expect(await pull(pushed.ref)).toBe(pushed.id)
    await impatient
    await store.remove(pushed.ref, never)
    await expect(store.pull(request, AbortSignal.timeout(40))).rejects.toThrow()
    await store.settled()
    // Nothing but what a repeated pull can use.
    expect(await pull(pushed.ref)).toBe(pushed.id)
  })

  it.each([
    ['nope/nope:1', 'NotFound'],
    ['nope', 'NotFound'],
  ])('says that %s is not there', async (name, code) => {
    const error = await pull(`${registry.address}/${name}`).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code })
    expect(errorMessage(error)).toContain(`pull ${registry.address}/${name}`)
  })

  it('says that a registry cannot be reached', async () => {
    await expect(pull('127.0.0.1:1/x:1')).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('refuses a pull that would fill the disk, and one with obsolete or absent tools', async () => {
    const pushed = await pushImage(registry, { name: 'full', layers: [small('full')] })
    const full = await place.open({ minFreeBytes: Number.MAX_SAFE_INTEGER })
    await expect(full.pull({ image: pushed.ref, auth: null }, never)).rejects.toMatchObject({
      code: 'ResourceExhausted',
    })
    await full[Symbol.asyncDispose]()
    const bare = await place.open({ skopeo: '/nonexistent' })
    await expect(bare.pull({ image: pushed.ref, auth: null }, never)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining('/nonexistent cannot be started: ENOENT') as unknown,
    })
    await bare[Symbol.asyncDispose]()
  })

  it('asks the mirror of a registry, and keeps the name that was asked for', async () => {
    const pushed = await pushImage(registry, { name: 'mirrored', layers: [small('mirrored')] })
    await place.writeRegistries(`
      [[registry]]
      location = "far.invalid"
      [[registry.mirror]]
      location = "${registry.address}"
      insecure = true`)
    expect(await pull('far.invalid/mirrored:1')).toBe(pushed.id)
    expect(store.get('far.invalid/mirrored:1')?.repoTags).toEqual(['far.invalid/mirrored:1'])
  })

  it('shows an identity token to the token server, and to nobody else', async () => {
    const pushed = await pushImage(registry, { name: 'token', layers: [small('token')] })
    const token = 'canary-identity-token'
    await using closed = await startTokenRegistry(registry, token)
    await place.writeRegistries(`[[registry]]\nlocation = "${closed.address}"\ninsecure = true`)
    const image = `${closed.address}/token:1`
    const wrong = { ...NO_AUTH, identity_token: 'wrong-identity-token' }
    const error = await store.pull({ image, auth: wrong }, never).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'PermissionDenied' })
    expect(String(error)).not.toContain('wrong-identity-token')
    const auth = { ...NO_AUTH, identity_token: token }
    expect(await store.pull({ image, auth }, never)).toBe(pushed.id)
    expect(place.logLines.join('')).not.toContain('canary')
  })

  it('takes the policy that is configured for a refusal', async () => {
    const pushed = await pushImage(registry, { name: 'untrusted', layers: [small('untrusted')] })
    const policy = join(place.dir, 'policy.json')
    await writeFile(policy, JSON.stringify({ default: [{ type: 'reject' }] }))
    const strict = await place.open({ policy })
    await strict.settled()
    await expect(strict.pull({ image: pushed.ref, auth: null }, never)).rejects.toMatchObject({
      code: 'PermissionDenied',
    })
    await strict[Symbol.asyncDispose]()
  })

  it('repeats a pull whose layers went away with another image', async () => {
    const shared = [{ path: 'big', content: Buffer.alloc(8_000_000, 'shared') }]
    const one = await pushImage(registry, { name: 'goes', layers: [shared, small('goes')] })
    const other = await pushImage(registry, { name: 'stays', layers: [shared, small('stays')] })
    for (const ms of [40, 80, 120, 160]) {
      await pull(one.ref)
      const pulled = pull(other.ref)
      await sleep(ms)
      await store.remove(one.ref, never)
      expect(await pulled).toBe(other.id)
      expect(existsSync(join(store.lowerDirs(other.id)[1] ?? '', 'big'))).toBe(true)
      await store.remove(other.ref, never)
    }
  })

  it('tells the usage of both file systems', async () => {
    const empty = await store.fsInfo(never)
    expect(empty.containers).toMatchObject({ mountpoint: join(place.dir, 'root/containers'), usedBytes: 0n })
    const pushed = await pushImage(registry, { name: 'usage', layers: [busyboxLayer()] })
    await pull(pushed.ref)
    const [one, two] = await Promise.all([store.fsInfo(never), store.fsInfo(never)])
    expect(one).toBe(two)
    expect(one.images.mountpoint).toBe(place.graph)
    expect(one.images.usedBytes - empty.images.usedBytes).toBeGreaterThan(1_900_000n)
    expect(one.images.inodesUsed - empty.images.inodesUsed).toBeGreaterThan(50n)
  })
})

describe.skipIf(why !== '')(`ImageStore with credentials and certificates${why}`, () => {
  let closed: Registry
  let ref = ''
  beforeAll(async () => {
    closed = await startRegistry({ auth: true, tls: true })
    ref = (await pushImage(closed, { name: 'secret', layers: [small('secret')] })).ref
  })
  afterAll(async () => await closed?.[Symbol.asyncDispose]())
  beforeEach(async () => {
    place = await StoreUnderTest.make(closed)
    const certs = join(place.dir, 'certs.d')
    await mkdir(join(certs, closed.address), { recursive: true })
    await copyFile(closed.caFile, join(certs, closed.address, 'ca.crt'))
    store = await place.open({ certsDir: certs })
  })
  afterEach(async () => {
    await store.settled()
    await store[Symbol.asyncDispose]()
    await place[Symbol.asyncDispose]()
  })

  const { username, password } = REGISTRY_USER
  const auth = Buffer.from(`${username}:${password}`).toString('base64')

  it.each([
    ['username and password', { username, password }],
    ['auth', { auth }],
    ['the address of the registry', { auth, server_address: 'https://ADDRESS/v2/' }],
  ])('pulls with %s', async (_, given) => {
    const server = 'server_address' in given ? given.server_address.replace('ADDRESS', closed.address) : ''
    await store.pull({ image: ref, auth: { ...NO_AUTH, ...given, server_address: server } }, never)
    expect(store.get(ref)?.repoTags).toEqual([ref])
  })

  it('refuses without, with wrong ones, and with those for another host, and shows none of them', async () => {
    const canary = 'canary-7f3a9b'
    const wrong = [
      null,
      { ...NO_AUTH, username: canary, password: `${canary}-p` },
      { ...NO_AUTH, auth, server_address: 'registry.example.org' },
    ]
    for (const given of wrong) {
      const error = await store.pull({ image: ref, auth: given }, never).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'PermissionDenied' })
      expect(String((error as Error).message)).not.toMatch(new RegExp(`canary|${auth}|:${password}`))
    }
    expect(place.logLines.join('')).not.toContain(canary)
    expect(readdirSync(join(place.dir, 'state/images-auth'))).toEqual([])
  })

  it('refuses a certificate that nobody vouches for', async () => {
    const strict = await place.open({ certsDir: '' })
    const given = { ...NO_AUTH, username, password }
    await expect(strict.pull({ image: ref, auth: given }, never)).rejects.toMatchObject({ code: 'Unavailable' })
    await strict[Symbol.asyncDispose]()
  })
})
