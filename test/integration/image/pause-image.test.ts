import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runOk } from '../../../src/host/programs/run.ts'
import { PauseImage, type PauseImageDeps } from '../../../src/image/pause-image.ts'
import type { ImageView } from '../../../src/image/types.ts'
import { ownDaemons, type TestDaemon } from '../../support/daemon.ts'

/** The store's, and what these images are made with. */
const TOOLS = { skopeo: '/usr/bin/skopeo', storage: '/usr/bin/containers-storage', umoci: '/usr/bin/umoci' }
const missing = Object.values(TOOLS).filter((path) => !existsSync(path))
const why = missing.length > 0 ? ` (skipped: there is no ${missing.join(' and no ')})` : ''

let dir = ''
const startDaemon = ownDaemons()

async function umoci(...args: string[]): Promise<void> {
  await runOk(TOOLS.umoci, args, { timeoutMs: 20_000 })
}

/** Makes an image in the layout `dir/images`, of catatonit, and returns its reference. */
async function makeImage(tag: string, config: readonly string[], link = ''): Promise<string> {
  const image = `${join(dir, 'images')}:${tag}`
  const bundle = join(dir, `bundle-${tag}`)
  await umoci('new', '--image', image)
  await umoci('unpack', '--image', image, bundle)
  await mkdir(join(bundle, 'rootfs/bin'))
  await copyFile('/usr/bin/catatonit', join(bundle, 'rootfs/bin/pause'))
  if (link !== '') await symlink('/etc', join(bundle, 'rootfs', link))
  await umoci('repack', '--image', image, bundle)
  if (config.length > 0) await umoci('config', '--image', image, ...config)
  return `oci:${image}`
}

const RUNNABLE = ['--config.entrypoint', '/bin/pause', '--config.cmd', '-P', '--config.stopsignal', 'SIGINT']

/** The layers that the daemon keeps. */
function kept(daemon: TestDaemon): string[] {
  const directory = join(daemon.dir, 'root/images/overlay')
  return existsSync(directory) ? readdirSync(directory).filter((name) => /^[0-9a-f]{64}$/.test(name)) : []
}

describe.skipIf(why !== '')(`a configured pause image${why}`, () => {
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-image-'))
    await umoci('init', '--layout', join(dir, 'images'))
  })
  afterAll(async () => {
    await rm(dir, { recursive: true })
  })

  it('is pulled by the first pods at once, run by all, and kept without its source', async () => {
    const image = await makeImage('good', RUNNABLE)
    // A binary that is not there: the built-in root file system is not made.
    const daemon = await startDaemon({ config: { pause: { image, binary: '/nonexistent' } } })
    expect(kept(daemon)).toEqual([])
    const ids = await Promise.all([0, 1, 2].map(() => daemon.run(daemon.hostPod())))
    for (const id of ids) {
      const { pid } = await daemon.client.info(id)
      const [name = ''] = kept(daemon)
      const program = statSync(join(daemon.dir, 'root/images/overlay', name, 'diff/bin/pause'))
      expect(statSync(`/proc/${pid}/exe`).ino).toBe(program.ino)
      expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).toBe('/bin/pause\0-P\0')
    }
    expect(kept(daemon)).toHaveLength(1)

    await rename(join(dir, 'images'), join(dir, 'away'))
    try {
      ids.push(await daemon.run(daemon.hostPod(), 'runc'))
      await daemon.restart()
      ids.push(await daemon.run(daemon.pod()))
    } finally {
      await rename(join(dir, 'away'), join(dir, 'images'))
    }
    await daemon.removeListed()
    // Its mount ends with it.
    await daemon.stop()
  })

  it('that is not there fails RunPodSandbox with its name and the reason, and leaves nothing', async () => {
    const image = `oci:${dir}/images:none`
    const daemon = await startDaemon({ config: { pause: { image } } })
    await expect(daemon.run()).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(new RegExp(`^pull pause image ${image}: .*(none|not found)`)) as unknown,
    })
    expect(await daemon.client.list()).toEqual([])
    expect(kept(daemon)).toEqual([])
    await makeImage('none', RUNNABLE)
    await daemon.run()
    await daemon.removeListed()
    // Its mount ends with it.
    await daemon.stop()
  })

  it('that cannot be run is refused', async () => {
    const image = await makeImage('empty', [])
    const daemon = await startDaemon({ config: { pause: { image } } })
    await expect(daemon.run()).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: `pull pause image ${image}: its configuration cannot be run: it names no command (Entrypoint, Cmd)`,
    })
  })

  it('may not lead its mount points elsewhere', async () => {
    const image = await makeImage('link', RUNNABLE, 'proc')
    const daemon = await startDaemon({ config: { pause: { image } } })
    const { pid } = await daemon.client.info(await daemon.run())
    expect(lstatSync(`/proc/${pid}/root/proc`).isDirectory()).toBe(true)
    await daemon.removeListed()
    // Its mount ends with it.
    await daemon.stop()
  })

  it('is held: nobody removes it', async () => {
    const image = await makeImage('held', RUNNABLE)
    const daemon = await startDaemon({ config: { pause: { image } } })
    await daemon.run()
    const [{ id } = { id: '' }] = await daemon.client.images.list()
    await expect(daemon.client.images.remove(id)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION })
    await daemon.removeListed()
    // Its mount ends with it.
    await daemon.stop()
  })
})

describe('PauseImage', () => {
  const never = new AbortController().signal
  const options = { reference: 'registry.example/pause:1', pullTimeoutMs: 60_000 }
  const view: ImageView = {
    id: 'sha256:1',
    repoTags: [],
    repoDigests: [],
    sizeBytes: 1n,
    pinned: true,
    config: { entrypoint: [], cmd: [], env: [], workingDir: '', user: '', stopSignal: '', volumes: [], labels: {} },
    spec: { config: { Entrypoint: ['/pause'], StopSignal: 'SIGQUIT' } },
  }

  /** A promise that the test settles. */
  function resolvers(): { promise: Promise<string>; resolve: (id: string) => void; reject: (error: Error) => void } {
    let resolve: (id: string) => void = () => {}
    let reject: (error: Error) => void = () => {}
    const promise = new Promise<string>((yes, no) => {
      resolve = yes
      reject = no
    })
    return { promise, resolve, reject }
  }

  /** A store that pulls when it is told to, and a kernel that notes what it was asked. */
  class Fakes {
    readonly calls: string[] = []
    image: ImageView | undefined
    pulling = resolvers()
    readonly deps: PauseImageDeps = {
      images: {
        get: () => this.image,
        pull: async ({ image }, signal) => {
          this.calls.push(`pull ${image}`)
          signal.addEventListener('abort', () => this.pulling.reject(signal.reason as Error))
          return this.pulling.promise
        },
        load: async ({ source, name }) => {
          this.calls.push(`load ${source} ${name}`)
          return this.pulling.promise
        },
        hold: () => ({ ...(this.image ?? view), [Symbol.dispose]: () => this.calls.push('release') }),
        lowerDirs: () => ['/layer'],
      },
      mountReadonly: async (lowerDirs) =>
        void this.calls.push(`mount ${lowerDirs.map((dir) => basename(dir)).join(':')}`),
      unmount: async () => void this.calls.push('unmount'),
    }
  }

  async function inDirectory(work: (paths: { directory: string; rootfsPath: string }) => Promise<void>): Promise<void> {
    const dir = await mkdtemp(join(tmpdir(), 'sbx-pause-'))
    try {
      await work({ directory: join(dir, 'pause'), rootfsPath: join(dir, 'rootfs') })
    } finally {
      await rm(dir, { recursive: true })
    }
  }

  it('pulls once for all, and goes on when one who waits gives up', async () => {
    await inDirectory(async (paths) => {
      const fakes = new Fakes()
      const image = new PauseImage({ ...options, ...paths }, fakes.deps)
      await image.load()
      expect(readdirSync(join(paths.directory, 'mount-points')).toSorted()).toEqual(['dev', 'proc', 'sys'])
      expect(() => image.program()).toThrow('pause image registry.example/pause:1: not pulled yet')
      const both = Promise.all([image.ensure(never), image.ensure(never)])
      await expect(image.ensure(AbortSignal.timeout(20))).rejects.toThrow()
      fakes.pulling.resolve('sha256:1')
      await both
      expect(image.program()).toEqual({ args: ['/pause'], stopSignal: 'SIGQUIT', rootfsPath: paths.rootfsPath })
      await image[Symbol.asyncDispose]()
      const pulled = ['pull registry.example/pause:1', 'mount mount-points:layer']
      expect(fakes.calls).toEqual(['unmount', ...pulled, 'unmount', 'release'])
    })
  })

  it('needs no registry for an image that is there', async () => {
    await inDirectory(async (paths) => {
      const fakes = new Fakes()
      fakes.image = view
      await using image = new PauseImage({ ...options, ...paths }, fakes.deps)
      await image.load()
      expect(image.program().args).toEqual(['/pause'])
      expect(fakes.calls).toEqual(['unmount', 'mount mount-points:layer'])
    })
  })

  it('takes sources with a transport', async () => {
    await inDirectory(async (paths) => {
      const fakes = new Fakes()
      fakes.pulling.resolve('sha256:1')
      await using image = new PauseImage({ ...options, ...paths, reference: 'oci:/layout:tag' }, fakes.deps)
      await image.ensure(never)
      expect(fakes.calls[0]).toMatch(/^load oci:\/layout:tag localhost\/pause:[0-9a-f]{16}$/)
    })
  })

  it('ends a pull at its deadline and when it is closed, and holds nothing that cannot be run', async () => {
    await inDirectory(async (paths) => {
      const fakes = new Fakes()
      const image = new PauseImage({ ...options, ...paths, pullTimeoutMs: 30 }, fakes.deps)
      await expect(image.ensure(never)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
      fakes.pulling = resolvers()
      const closed = new PauseImage({ ...options, ...paths }, fakes.deps)
      const failed = expect(closed.ensure(never)).rejects.toMatchObject({ code: 'Canceled' })
      await closed[Symbol.asyncDispose]()
      await failed

      fakes.image = { ...view, spec: {} }
      await expect(image.ensure(never)).rejects.toMatchObject({
        code: 'FailedPrecondition',
        message: expect.stringContaining('names no command') as unknown,
      })
      expect(fakes.calls).toContain('release')
      expect(fakes.calls.join()).not.toContain('mount mount-points')
    })
  })
})
