import { readFile } from 'node:fs/promises'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { Kernel, OverlayRequest } from '../../host/kernel.ts'
import { type ContainerRoots, containersDir } from '../paths.ts'

export interface OverlayRecord {
  readonly path: string
}

/** The root file systems of containers, and the images that they mount: overlay mounts in their state directories. */
export class OverlayMounts implements ResourceKind<OverlayRecord> {
  readonly kind = 'overlay'
  readonly #parent: string
  readonly #kernel: Kernel

  constructor(roots: ContainerRoots, deps: { readonly kernel: Kernel }) {
    this.#parent = `${containersDir(roots.state)}/`
    this.#kernel = deps.kernel
  }

  async acquire(request: OverlayRequest): Promise<void> {
    await this.#kernel.mountOverlay(request)
  }

  parse(record: unknown): OverlayRecord {
    const path = (record as Partial<OverlayRecord> | null)?.path
    if (typeof path === 'string' && this.#idOf(path) !== undefined) return { path }
    throw new CodedError('DataLoss', `overlay record: ${JSON.stringify(record)} is not a mount of a container`)
  }

  async release(record: OverlayRecord): Promise<void> {
    await this.#kernel.unmount(record.path)
  }

  async probe(record: OverlayRecord): Promise<boolean> {
    return (await this.listOwned()).some(({ subject }) => subject === record.path)
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    const mountinfo = await readFile('/proc/self/mountinfo', 'utf8')
    return mountinfo.split('\n').flatMap((line) => {
      const path = line.split(' ')[4] ?? ''
      const id = this.#idOf(path)
      return id === undefined ? [] : [{ ownerId: id, subject: path }]
    })
  }

  #idOf(path: string): string | undefined {
    if (!path.startsWith(this.#parent)) return undefined
    return /^([0-9a-f]{64})\/(?:rootfs|image-\d+)$/.exec(path.slice(this.#parent.length))?.[1]
  }
}
