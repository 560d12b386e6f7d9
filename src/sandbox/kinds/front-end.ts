import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { CodedError, errnoOf } from '../../core/errors.ts'
import type { OwnedResource, ResourceKind } from '../../core/resource.ts'
import { makeDirectory } from '../../host/files.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'

/** Where a front end looks for what the containers of a sandbox share. */
export interface FrontEndRecord {
  /** The directory of hosts, hostname and resolv.conf. */
  readonly files: string
  /** Where the pod's tmpfs is to be seen; `''` for pods that have none. */
  readonly shm: string
}

/** As containerd's CRI names them below its own root and state directories. */
const FILES_PATH = /^\/(?:.+\/)?sandboxes\/[0-9a-f]{64}$/
const SHM_PATH = /^\/(?:.+\/)?sandboxes\/[0-9a-f]{64}\/shm$/
const FILE_NAMES = ['hosts', 'hostname', 'resolv.conf']

export interface FrontEndOptions {
  /** The root directory of the front end's CRI; `''` when it makes all this itself. */
  readonly root: string
  /** Its state directory. */
  readonly state: string
}

/** The places at which a front end finds the files of a pod and its /dev/shm. It may remove all of them at any time. */
export class FrontEndPlaces implements ResourceKind<FrontEndRecord> {
  readonly kind = 'frontend'
  readonly #options: FrontEndOptions
  readonly #kernel: Kernel

  constructor(options: FrontEndOptions, deps: { readonly kernel: Kernel }) {
    this.#options = options
    this.#kernel = deps.kernel
  }

  /** The places of a sandbox that is about to be; null where the front end makes them. */
  plan(sandboxId: string, hasShm: boolean): FrontEndRecord | null {
    const { root, state } = this.#options
    if (root === '') return null
    const shm = hasShm ? join(state, 'sandboxes', sandboxId, 'shm') : ''
    return { files: join(root, 'sandboxes', sandboxId), shm }
  }

  /** Whether all is there. @param shm the tmpfs that the front end is to see. */
  async isWhole(record: FrontEndRecord, shm: string): Promise<boolean> {
    const [names, seen, ours] = await Promise.all([
      namesIn(record.files),
      record.shm === '' ? null : deviceOf(record.shm),
      record.shm === '' ? null : deviceOf(shm),
    ])
    return FILE_NAMES.every((name) => names.includes(name)) && seen === ours
  }

  /** Makes the directory of the files, which the caller writes, and shows the tmpfs, unless it can be seen already. */
  async acquire(record: FrontEndRecord, shm: string): Promise<void> {
    await makeDirectory(record.files, 0o755)
    if (record.shm === '' || (await deviceOf(record.shm)) === (await deviceOf(shm))) return
    await makeDirectory(record.shm, 0o755)
    await this.#kernel.bindMount({ source: shm, path: record.shm })
  }

  /** What is removed follows from this record, whatever the configuration says today. */
  parse(record: unknown): FrontEndRecord {
    const { files, shm } = (record ?? {}) as Partial<FrontEndRecord>
    const isOurs =
      typeof files === 'string' &&
      typeof shm === 'string' &&
      FILES_PATH.test(files) &&
      (shm === '' || SHM_PATH.test(shm)) &&
      [files, shm].every((path) => path === '' || normalize(path) === path)
    if (isOurs) return { files, shm }
    throw new CodedError('DataLoss', `frontend record: ${JSON.stringify(record)} names no places of a sandbox`)
  }

  /** Nothing but what was made here is removed: the directories are the front end's as much as ours. */
  async release({ files, shm }: FrontEndRecord): Promise<void> {
    if (shm !== '') {
      await this.#kernel.unmount(shm)
      await removeEmpty(shm)
      await removeEmpty(dirname(shm))
    }
    await Promise.all(FILE_NAMES.map((name) => rm(join(files, name), { force: true })))
    await removeEmpty(files)
  }

  async probe({ files }: FrontEndRecord): Promise<boolean> {
    return (await deviceOf(files)) !== null
  }

  /** What the front end makes there looks the same. */
  async listOwned(): Promise<readonly OwnedResource[]> {
    return []
  }
}

/** The device that a file lies on; null when there is none. */
async function deviceOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).dev
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return null
    throw error
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw error
  }
}

async function removeEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory)
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error
  }
}
