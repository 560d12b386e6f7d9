import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { Kernel, Owner } from '../../host/kernel/kernel.ts'
import { type SandboxRoots, sandboxesDir } from '../paths.ts'
import { type StateMountRecord, StateMounts } from '../../lifecycle/state-mounts.ts'

/** What containerd, CRI-O and Docker give a pod. */
const SIZE_BYTES = 64 * 1024 * 1024

export type ShmRecord = StateMountRecord

/** The tmpfs that the containers of a pod share as /dev/shm. */
export class ShmMounts implements ResourceKind<ShmRecord> {
  readonly kind = 'shm'
  readonly #mounts: StateMounts
  readonly #kernel: Kernel

  constructor(roots: SandboxRoots, deps: { readonly kernel: Kernel }) {
    this.#mounts = new StateMounts({ parent: sandboxesDir(roots.state), name: /^shm$/, what: 'the shm of a sandbox' })
    this.#kernel = deps.kernel
  }

  /** @param owner whom the tmpfs belongs to; root without it. */
  async acquire({ path }: ShmRecord, owner: Owner | null): Promise<void> {
    await this.#kernel.mountTmpfs({ path, sizeBytes: SIZE_BYTES, mode: 0o1777, ...(owner ? { owner } : {}) })
  }

  parse(record: unknown): ShmRecord {
    return this.#mounts.parse(record)
  }

  async release(record: ShmRecord): Promise<void> {
    await this.#kernel.unmount(record.path)
  }

  async probe(record: ShmRecord): Promise<boolean> {
    return (await this.listOwned()).some(({ subject }) => subject === record.path)
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    return this.#mounts.list()
  }
}
