import { existsSync, readdirSync, statSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runOk } from '../../../src/host/run.ts'
import { PauseImage } from '../../../src/image/pause-image.ts'
import { ownDaemons, type TestDaemon } from '../../support/daemon.ts'

const TOOLS = { skopeo: '/usr/bin/skopeo', umoci: '/usr/bin/umoci' }
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

function kept(daemon: TestDaemon): string[] {
  return readdirSync(join(daemon.dir, 'root/pause'))
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
      const program = statSync(join(daemon.dir, 'root/pause', name, 'rootfs/bin/pause'))
      expect(statSync(`/proc/${pid}/exe`).ino).toBe(program.ino)
      expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).toBe('/bin/pause\0-P\0')
    }
    expect(kept(daemon)).toEqual([expect.stringMatching(/^image-[0-9a-f]{16}$/)])

    await rename(join(dir, 'images'), join(dir, 'away'))
    try {
      ids.push(await daemon.run(daemon.hostPod(), 'runc'))
      await daemon.restart()
      ids.push(await daemon.run(daemon.pod()))
    } finally {
      await rename(join(dir, 'away'), join(dir, 'images'))
    }
    await daemon.removeListed()
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
  })

  it('that cannot be run is refused', async () => {
    const image = await makeImage('empty', [])
    const daemon = await startDaemon({ config: { pause: { image } } })
    await expect(daemon.run()).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: `pull pause image ${image}: its configuration cannot be run: it names no command (Entrypoint, Cmd)`,
    })
    expect(kept(daemon)).toEqual([])
  })

  it('may not lead its mount points elsewhere', async () => {
    const image = await makeImage('link', RUNNABLE, 'proc')
    const daemon = await startDaemon({ config: { pause: { image } } })
    await expect(daemon.run()).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: `pull pause image ${image}: its /proc is not a directory`,
    })
    expect(kept(daemon)).toEqual([])
  })
})

describe('PauseImage', () => {
  const never = new AbortController().signal

  async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), 'sbx-pull-'))
    try {
      await work(directory)
    } finally {
      await rm(directory, { recursive: true })
    }
  }

  /** A program that hangs where skopeo would pull. */
  async function hangingTool(directory: string): Promise<string> {
    const path = join(directory, 'skopeo')
    await writeFile(path, '#!/bin/sh\ntouch "$TMPDIR/part"\nexec sleep 60\n', { mode: 0o755 })
    return path
  }

  it('removes what an interrupted pull has left, and nothing else', async () => {
    await inDirectory(async (directory) => {
      await mkdir(join(directory, `image-${'0'.repeat(16)}.tmp/layout`), { recursive: true })
      await mkdir(join(directory, `image-${'0'.repeat(16)}`))
      const options = { reference: 'x', directory, ...TOOLS, pullTimeoutMs: 1000, env: {} }
      await using image = new PauseImage(options)
      await image.load()
      expect(readdirSync(directory)).toEqual([`image-${'0'.repeat(16)}`])
      expect(() => image.program()).toThrow('pause image x: not pulled yet')
    })
  })

  it('ends a pull at its deadline and when it is closed, and leaves nothing', async () => {
    await inDirectory(async (directory) => {
      const skopeo = await hangingTool(directory)
      const store = join(directory, 'store')
      const options = { reference: 'x', directory: store, ...TOOLS, skopeo, pullTimeoutMs: 300, env: {} }
      await using image = new PauseImage(options)
      await image.load()
      await expect(image.ensure(never)).rejects.toMatchObject({
        code: 'DeadlineExceeded',
        message: expect.stringContaining('pull pause image x: ') as unknown,
      })
      expect(readdirSync(store)).toEqual([])

      const closed = new PauseImage({ ...options, pullTimeoutMs: 60_000 })
      const pulled = closed.ensure(never)
      const failed = expect(pulled).rejects.toMatchObject({ code: 'Canceled' })
      await closed[Symbol.asyncDispose]()
      await failed
      expect(readdirSync(store)).toEqual([])
    })
  })

  it('goes on with the pull when one who waits for it gives up', async () => {
    await inDirectory(async (directory) => {
      const skopeo = await hangingTool(directory)
      const options = { reference: 'x', directory, ...TOOLS, skopeo, pullTimeoutMs: 1500, env: {} }
      await using image = new PauseImage(options)
      const other = expect(image.ensure(never)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
      await expect(image.ensure(AbortSignal.timeout(100))).rejects.toThrow()
      await other
    })
  })

  it('says so when a program is missing', async () => {
    await inDirectory(async (directory) => {
      const options = { reference: 'x', directory, ...TOOLS, skopeo: '/nonexistent', pullTimeoutMs: 1000, env: {} }
      await using image = new PauseImage(options)
      await expect(image.ensure(never)).rejects.toMatchObject({
        code: 'FailedPrecondition',
        message: expect.stringMatching(/^pull pause image x: run \/nonexistent .*cannot be started/) as unknown,
      })
    })
  })
})
