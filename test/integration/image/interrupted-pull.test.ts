import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { commandLine, listPids } from '../../../src/host/process.ts'
import { runOk } from '../../../src/host/programs/run.ts'
import type { ImageStore } from '../../../src/image/image-store.ts'
import { IMAGE_TOOLS, StoreUnderTest } from '../../support/image-store.ts'
import { type PushedImage, pushImage } from '../../support/images.ts'
import { type Registry, startRegistry } from '../../support/registry.ts'

const never = new AbortController().signal
const missing = [...Object.values(IMAGE_TOOLS), '/usr/bin/docker-registry'].filter((path) => !existsSync(path))
const why = missing.length > 0 ? ` (skipped: there is no ${missing.join(' and no ')})` : ''

let registry: Registry
let image: PushedImage
let place: StoreUnderTest

/** Names of everything that a store keeps, but for its locks. */
function contents(): string[] {
  const all = readdirSync(place.graph, { recursive: true, withFileTypes: true })
  return all
    .map((entry) => join(entry.parentPath, entry.name).slice(place.graph.length + 1))
    .filter((path) => /^(overlay-layers|overlay-images|tmp)\//.test(path) || /^overlay\/(l\/)?[^/]+$/.test(path))
    .filter((path) => !/\.lock$|\.has-mount-program$|^overlay\/l$|(layers|images|volatile-layers)\.json$/.test(path))
}

/** The tools that work in this store. */
function tools(): number[] {
  return listPids().filter((pid) => {
    const [file = ''] = commandLine(pid)
    if (!/skopeo|containers-storage|storage-/.test(file)) return false
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(place.graph)
    } catch {
      return false
    }
  })
}

async function until(what: () => boolean): Promise<void> {
  for (let tries = 0; !what(); tries++) {
    if (tries > 1000) throw new Error(`it does not come to: ${what.toString()}`)
    await sleep(5)
  }
}

/** Finished ones. */
function layerCount(): number {
  const path = join(place.graph, 'overlay-layers/layers.json')
  const layers = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8') || '[]') as { flags?: object }[]) : []
  return layers.filter((layer) => layer.flags === undefined).length
}

describe.skipIf(why !== '')(`a pull that is cut short${why}`, () => {
  beforeAll(async () => {
    registry = await startRegistry()
    const layers = [0, 1, 2].map((at) => [{ path: `random-${at}`, content: randomBytes(12_000_000) }])
    image = await pushImage(registry, { name: 'large', layers })
  })
  afterAll(async () => await registry?.[Symbol.asyncDispose]())
  beforeEach(async () => {
    place = await StoreUnderTest.make(registry)
  })
  afterEach(async () => {
    expect(place.mounts()).toEqual([])
    expect(tools()).toEqual([])
    await place[Symbol.asyncDispose]()
  })

  async function inStore(work: (store: ImageStore) => Promise<void>): Promise<void> {
    const store = await place.open()
    try {
      await store.settled()
      await work(store)
      await store.settled()
    } finally {
      await store[Symbol.asyncDispose]()
    }
  }

  // As a killed daemon leaves it: the tool goes on for a while, or was killed as well, at any moment.
  it.each([0, 30, 60, 90, 120, 150, 200, 250, 300, 400])(
    'leaves nothing behind when all is killed after %d ms',
    async (ms) => {
      const dead = await place.open()
      await dead.settled()
      const pulled = dead.pull({ image: image.ref, auth: null }, never)
      const ended = pulled.then(() => true).catch(() => false)
      await sleep(ms)
      for (const pid of tools()) process.kill(pid, 'SIGKILL')
      const isThere = await ended
      await dead[Symbol.asyncDispose]()
      await inStore(async (store) => {
        await store.settled()
        if (!isThere) expect(store.list()).toEqual([])
        if (!isThere) expect(contents()).toEqual([])
        expect(await store.pull({ image: image.ref, auth: null }, never)).toBe(image.id)
        expect(store.list()).toHaveLength(1)
        await store.remove(image.ref, never)
        expect(contents()).toEqual([])
      })
    },
  )

  it('is ended by the next start when its daemon was killed', async () => {
    const dead = await place.open()
    await dead.settled()
    const ended = dead.pull({ image: image.ref, auth: null }, never).catch((error: unknown) => error)
    await until(() => tools().some((pid) => commandLine(pid).includes('copy')))
    // The first store knows nothing of this, as if it were dead.
    const next = await place.open()
    expect(tools()).toEqual([])
    await ended
    await dead[Symbol.asyncDispose]()
    await next.settled()
    expect(next.list()).toEqual([])
    expect(contents()).toEqual([])
    await next[Symbol.asyncDispose]()
  })

  it('keeps finished layers for the next try as long as the daemon runs', async () => {
    await inStore(async (store) => {
      const ended = store.pull({ image: image.ref, auth: null }, never).catch((error: unknown) => error)
      await until(() => layerCount() > 0)
      for (const pid of tools()) process.kill(pid, 'SIGKILL')
      expect(await ended).toBeInstanceOf(Error)
      await store.settled()
      const kept = layerCount()
      expect(kept).toBeGreaterThan(0)
      const mark = registry.log().length
      await store.pull({ image: image.ref, auth: null }, never)
      const asked =
        registry
          .log()
          .slice(mark)
          .match(/"GET \/v2\/large\/blobs/g)?.length ?? 0
      // One of them is the configuration, which is asked for again.
      expect(asked).toBeLessThanOrEqual(4 - kept)
    })
  })

  it('of an image that was unfinished under another name is not shown', async () => {
    await inStore(async (store) => {
      await store.pull({ image: image.ref, auth: null }, never)
      const [{ id } = { id: '' }] = store.list()
      const names = ['--name', 'sandboxerd.invalid/staging:left']
      const where = ['--graph', place.graph, '--run', join(place.dir, 'state/images'), '--storage-driver', 'overlay']
      const options = ['--storage-opt', 'overlay.skip_mount_home=true']
      await runOk(IMAGE_TOOLS.storageTool, ['set-names', ...where, ...options, ...names, id.slice(7)], {
        timeoutMs: 20_000,
      })
    })
    await inStore(async (store) => {
      expect(store.list()).toEqual([])
      expect(contents()).toEqual([])
    })
  })

  it('does not touch a store that cannot be read, and lets the daemon start', async () => {
    await inStore(async (store) => void (await store.pull({ image: image.ref, auth: null }, never)))
    const before = contents()
    await writeFile(join(place.graph, 'overlay-images/images.json'), '{damaged')
    const store = await place.open()
    await store.settled()
    expect(store.list()).toEqual([])
    expect(place.logLines.join('')).toContain('image store cannot be read')
    await store[Symbol.asyncDispose]()
    expect(contents()).toEqual(before)
  })

  it('keeps layers that are mounted, whatever the records say', async () => {
    const mountpoint = join(place.dir, 'mounted')
    await mkdir(mountpoint)
    try {
      await inStore(async (store) => {
        const id = await store.pull({ image: image.ref, auth: null }, never)
        const lower = `lowerdir=${store.lowerDirs(id).join(':')}`
        await runOk('mount', ['-t', 'overlay', '-o', lower, 'overlay', mountpoint], { timeoutMs: 10_000 })
      })
      await rm(join(place.graph, 'overlay-images/images.json'))
      await inStore(async (store) => {
        expect(store.list()).toEqual([])
        expect(readFileSync(join(mountpoint, 'random-0'))).toHaveLength(12_000_000)
      })
    } finally {
      await runOk('umount', [mountpoint], { timeoutMs: 10_000 })
    }
    await inStore(async () => expect(contents()).toEqual([]))
  })

  it('is ended when the disk gets full, and all that it brought is removed', async () => {
    const root = join(place.dir, 'root')
    await runOk('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', root], { timeoutMs: 10_000 })
    const store = await place.open({ minFreeBytes: 32 * 1024 * 1024 })
    try {
      await store.settled()
      // Nothing, packed into a thousandth of it.
      const bomb = await pushImage(registry, {
        name: 'bomb',
        layers: [[{ path: 'zeros', content: Buffer.alloc(150_000_000) }]],
      })
      const error = await store.pull({ image: bomb.ref, auth: null }, never).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'ResourceExhausted' })
      await store.settled()
      expect(store.list()).toEqual([])
      expect(contents()).toEqual([])
      const small = await pushImage(registry, { name: 'fits', layers: [[{ path: 'x', content: 'x' }]] })
      await store.pull({ image: small.ref, auth: null }, never)
    } finally {
      await store[Symbol.asyncDispose]()
      await runOk('umount', [root], { timeoutMs: 10_000 })
    }
  })
})
