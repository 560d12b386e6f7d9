import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { CodedError, errnoOf } from '../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../core/resource.ts'
import { makeDirectory } from '../host/files.ts'

export interface DirectoryRecord {
  readonly path: string
}

export type RemoveDirectory = (path: string, signal: AbortSignal) => Promise<void>

/** The directories of sandboxes, or of containers. A checkpoint is a file in one of them, and goes with it. */
export class Directories implements ResourceKind<DirectoryRecord> {
  readonly kind = 'directory'
  readonly #parents: readonly string[]
  readonly #remove: RemoveDirectory

  /**
   * @param options.parents the directories in which each owner has one of its own, named by its id.
   * @param deps.remove removes one with all that is in it; a missing one is success.
   */
  constructor(options: { readonly parents: readonly string[] }, deps: { readonly remove: RemoveDirectory }) {
    this.#parents = options.parents
    this.#remove = deps.remove
  }

  async acquire(record: DirectoryRecord): Promise<void> {
    await makeDirectory(record.path)
  }

  /** A recursive delete follows from this record: it may only be an owner's own directory. */
  parse(record: unknown): DirectoryRecord {
    const path = (record as Partial<DirectoryRecord> | null)?.path
    if (typeof path === 'string' && this.#parents.includes(dirname(path)) && /\/[0-9a-f]{64}$/.test(path))
      return { path }
    throw new CodedError(
      'DataLoss',
      `directory record: ${JSON.stringify(record)} is not one of ${this.#parents.join()}`,
    )
  }

  async release(record: DirectoryRecord, signal: AbortSignal): Promise<void> {
    await this.#remove(record.path, signal)
  }

  async probe(record: DirectoryRecord): Promise<boolean> {
    return stat(record.path).then(
      () => true,
      () => false,
    )
  }

  async listOwned(): Promise<readonly OwnedResource[]> {
    const lists = await Promise.all(
      this.#parents.map(async (parent) => {
        const names = await readdir(parent).catch((error: unknown) => {
          if (errnoOf(error) === 'ENOENT') return []
          throw error
        })
        // Beside them may be what belongs to the file system, or to a monitor.
        const own = names.filter((name) => /^[0-9a-f]{64}$/.test(name))
        return own.map((name) => ({ ownerId: name, subject: join(parent, name) }))
      }),
    )
    return lists.flat()
  }
}
