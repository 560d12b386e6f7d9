import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { toImage } from '../../../src/cri/image-messages.ts'
import { imageService } from '../../../src/cri/image-service.ts'
import { loadCri } from '../../../src/grpc/load.ts'
import { GrpcServer } from '../../../src/grpc/server.ts'
import type { Images, ImageView } from '../../../src/image/types.ts'
import { ImageClient } from '../../support/cri-images.ts'

function view(part: Partial<ImageView> = {}, user = ''): ImageView {
  return {
    id: `sha256:${'a'.repeat(64)}`,
    repoTags: ['docker.io/library/busybox:latest'],
    repoDigests: [`docker.io/library/busybox@sha256:${'b'.repeat(64)}`],
    sizeBytes: 2n ** 40n,
    pinned: false,
    config: { entrypoint: [], cmd: [], env: [], workingDir: '', user, stopSignal: '', volumes: [], labels: {} },
    spec: { os: 'linux' },
    ...part,
  }
}

class FakeImages implements Images {
  views: ImageView[] = [view()]
  readonly calls: unknown[] = []

  async pull(request: Parameters<Images['pull']>[0]): Promise<string> {
    this.calls.push(request)
    if (request.image === 'none') throw new CodedError('NotFound', 'pull none: manifest unknown')
    return this.views[0]?.id ?? ''
  }

  get(image: string): ImageView | undefined {
    return this.views.find(({ id, repoTags }) => id === image || repoTags.includes(image))
  }

  list(image = ''): ImageView[] {
    return this.views.filter((one) => image === '' || one === this.get(image))
  }

  async remove(image: string): Promise<void> {
    this.calls.push(`remove ${image}`)
  }

  async fsInfo(): ReturnType<Images['fsInfo']> {
    const usage = (mountpoint: string) => ({ mountpoint, atNs: 2n ** 60n, usedBytes: 2n ** 50n, inodesUsed: 3n })
    return { images: usage('/images'), containers: usage('/containers') }
  }
}

let dir = ''
let images: FakeImages
let server: GrpcServer
let client: ImageClient
const logLines: string[] = []

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandboxerd-images-'))
  images = new FakeImages()
  const logger = pino({ level: 'trace' }, { write: (line: string) => logLines.push(line) })
  const socketPath = join(dir, 'cri.sock')
  server = new GrpcServer({ socketPath, mode: 0o600, group: '' }, { logger })
  const { service } = loadCri().runtime.v1.ImageService
  server.addService(service, imageService({ images, wire: service, logger }))
  await server.listen()
  client = new ImageClient(socketPath)
})

afterEach(async () => {
  client[Symbol.dispose]()
  await server.close(0)
  await rm(dir, { recursive: true })
})

describe('PullImage', () => {
  it('answers with the id, and logs no credentials', async () => {
    const auth = { username: 'u', password: 'canary-password' }
    expect(await client.pull('busybox', auth)).toBe(view().id)
    expect(images.calls).toMatchObject([{ image: 'busybox', auth }])
    expect(await client.pull('busybox')).toBe(view().id)
    expect(images.calls[1]).toEqual({ image: 'busybox', auth: null })
    await expect(client.pull('none', auth)).rejects.toMatchObject({ code: status.NOT_FOUND })
    expect(logLines.join('')).not.toContain('canary')
  })

  it.each(['', 'a b', 'a\nb', 'x'.repeat(2000)])('refuses %j, naming the field', async (image) => {
    await expect(client.pull(image)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/^image/) as unknown,
    })
    expect(images.calls).toEqual([])
  })

  it('does not quote credentials that it refuses', async () => {
    const error = await client.pull('x', { password: 'canary'.repeat(20_000) }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, details: 'auth.password: longer than 65536 bytes' })
  })
})

describe('ListImages and StreamImages', () => {
  it('show all, or the one that is asked for', async () => {
    images.views.push(view({ id: 'sha256:2', repoTags: ['r/x:1'], pinned: true }))
    expect((await client.list()).map(({ id, pinned }) => [id, pinned])).toEqual([
      [view().id, false],
      ['sha256:2', true],
    ])
    expect(await client.stream()).toEqual(await client.list())
    expect((await client.list('r/x:1')).map(({ id }) => id)).toEqual(['sha256:2'])
    expect(await client.stream('nothing')).toEqual([])
  })

  it('refuses a list that no message holds, and streams it', async () => {
    const tags = Array.from({ length: 100 }, (_, at) => `registry.example/${'x'.repeat(200)}:${at}`)
    images.views = Array.from({ length: 1000 }, (_, at) => view({ id: `sha256:${at}`, repoTags: tags }))
    await expect(client.list()).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringContaining('StreamImages') as unknown,
    })
    expect(await client.stream()).toHaveLength(1000)
  })
})

describe('ImageStatus', () => {
  it('shows an image, and nothing where there is none', async () => {
    expect(await client.status('docker.io/library/busybox:latest')).toMatchObject({
      id: view().id,
      size: (2n ** 40n).toString(),
      uid: null,
      username: '',
      spec: { image: 'docker.io/library/busybox:latest' },
    })
    expect(await client.status('nothing')).toBeNull()
    expect(await client.info(view().id)).toEqual({ imageSpec: { os: 'linux' } })
  })

  it.each([
    ['', null, ''],
    ['0', '0', ''],
    ['1000:1000', '1000', ''],
    ['web', null, 'web'],
    ['web:staff', null, 'web'],
    ['99999999999999999999', null, '99999999999999999999'],
  ])('takes the user %j for the uid %j and the name %j', (user, uid, username) => {
    expect(toImage(view({}, user))).toMatchObject({ uid: uid === null ? null : { value: uid }, username })
  })
})

describe('RemoveImage and ImageFsInfo', () => {
  it('pass on what is asked and answered', async () => {
    await client.remove('busybox')
    expect(images.calls).toEqual(['remove busybox'])
    await expect(client.remove('')).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    const {
      image_filesystems: [one],
      container_filesystems: [two],
    } = await client.fsInfo()
    expect(one).toEqual({
      timestamp: (2n ** 60n).toString(),
      fs_id: { mountpoint: '/images' },
      used_bytes: { value: (2n ** 50n).toString() },
      inodes_used: { value: '3' },
    })
    expect(two?.fs_id?.mountpoint).toBe('/containers')
  })
})
