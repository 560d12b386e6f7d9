import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { Kernel, OverlayRequest } from '../../host/kernel/kernel.ts'
import { type StateMountRecord, StateMounts } from '../../lifecycle/state-mounts.ts'
import { type ContainerRoots, containersDir } from '../paths.ts'

export type OverlayRecord = StateMountRecord

/** The root file systems of containers, and the images that they mount: overlay mounts in their state directories. */
export class OverlayMounts implements ResourceKind<OverlayRecord> {
  readonly kind = 'overlay'
  readonly #mounts: StateMounts
  readonly #kernel: Kernel

  constructor(roots: ContainerRoots, deps: { readonly kernel: Kernel }) {
    const name = /^(?:rootfs|image-\d+)$/
    this.#mounts = new StateMounts({ parent: containersDir(roots.state), name, what: 'a mount of a container' })
    this.#kernel = deps.kernel
  }

  async acquire(request: OverlayRequest): Promise<void> {
    await this.#kernel.mountOverlay(request)
  }

  parse(record: unknown): OverlayRecord {
    return this.#mounts.parse(record)
  }

  async release(record: OverlayRecord): Promise<void> {
    await this.#kernel.unmount(record.path)
  }

  async probe(record: OverlayRecord): Promise<boolean> {
    return (await this.listOwned()).some(({ subject }) => subject === record.path)
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    return this.#mounts.list()
  }
}
