import { readFile } from 'node:fs/promises'
import { CodedError } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import type { Kernel } from '../../host/kernel.ts'
import { type SandboxRoots, sandboxesDir, sandboxPaths } from '../paths.ts'

/** What containerd, CRI-O and Docker give a pod. */
const SIZE_BYTES = 64 * 1024 * 1024

export interface ShmRecord {
  readonly path: string
}

/** The tmpfs that the containers of a pod share as /dev/shm. */
export class ShmMounts implements ResourceKind<ShmRecord> {
  readonly kind = 'shm'
  readonly #roots: SandboxRoots
  readonly #kernel: Kernel

  constructor(roots: SandboxRoots, deps: { readonly kernel: Kernel }) {
    this.#roots = roots
    this.#kernel = deps.kernel
  }

  async acquire(record: ShmRecord): Promise<void> {
    await this.#kernel.mountTmpfs({ path: record.path, sizeBytes: SIZE_BYTES, mode: 0o1777 })
  }

  parse(record: unknown): ShmRecord {
    const path = (record as Partial<ShmRecord> | null)?.path
    const id = typeof path === 'string' ? this.#idOf(path) : undefined
    if (id === undefined) {
      throw new CodedError('DataLoss', `shm record: ${JSON.stringify(record)} is not the shm of a sandbox`)
    }
    return { path: sandboxPaths(this.#roots, id).shm }
  }

  async release(record: ShmRecord): Promise<void> {
    await this.#kernel.unmount(record.path)
  }

  async probe(record: ShmRecord): Promise<boolean> {
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
    const parent = `${sandboxesDir(this.#roots.state)}/`
    const match = path.startsWith(parent) ? /^([0-9a-f]{64})\/shm$/.exec(path.slice(parent.length)) : null
    return match?.[1]
  }
}
