import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errnoOf } from '../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../core/resource.ts'
import { makeDirectory } from '../host/files.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import { isPinnedNamespace } from '../host/kernel/namespace-file.ts'

const PREFIX = 'sbx-'

export interface NetnsRecord {
  readonly path: string
}

/** Named network namespaces, pinned by a bind mount: `ip netns` knows them where the directory is `/run/netns`. */
export class NetnsPins implements ResourceKind<NetnsRecord> {
  readonly kind = 'netns'
  readonly #directory: string
  readonly #kernel: Kernel

  constructor(options: { readonly directory: string }, deps: { readonly kernel: Kernel }) {
    this.#directory = options.directory
    this.#kernel = deps.kernel
  }

  /** The record of the network namespace of a sandbox that is about to be. */
  plan(sandboxId: string): NetnsRecord {
    return { path: join(this.#directory, PREFIX + sandboxId) }
  }

  /**
   * Makes the namespace, with `lo` up.
   * @param userns where the user namespace is pinned that shall own it; null for the node's.
   */
  async acquire(record: NetnsRecord, userns: string | null): Promise<void> {
    await makeDirectory(this.#directory, 0o755)
    await this.#kernel.pin({ create: { net: record.path }, ...(userns === null ? {} : { userns }) })
  }

  parse(record: unknown): NetnsRecord {
    const path = (record as Partial<NetnsRecord> | null)?.path
    if (typeof path !== 'string' || !/^sbx-[0-9a-f]{64}$/.test(path.slice(this.#directory.length + 1))) {
      throw new CodedError('DataLoss', `netns record: ${JSON.stringify(record)} is not a path in ${this.#directory}`)
    }
    return this.plan(path.slice(-64))
  }

  async release(record: NetnsRecord): Promise<void> {
    await this.#kernel.unpin(record.path)
  }

  async probe(record: NetnsRecord): Promise<boolean> {
    return isPinnedNamespace(record.path)
  }

  /** The names are those of every sandboxerd: in a directory that several share, the id tells whose one is. */
  async listOwned(): Promise<readonly OwnedResource[]> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return []
      throw error
    })
    return names
      .filter((name) => /^sbx-[0-9a-f]{64}$/.test(name))
      .map((name) => ({ ownerId: name.slice(PREFIX.length), subject: join(this.#directory, name) }))
  }
}
