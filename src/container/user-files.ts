import type { Kernel } from '../host/kernel/kernel.ts'

/** What an image says of users and groups; null where it says nothing. */
export interface UserFiles {
  readonly passwd: string | null
  readonly group: string | null
}

/** More of /etc/passwd or /etc/group than this nobody needs. */
const MAX_FILE_BYTES = 10 * 1024 * 1024
const MAX_KEPT = 128
const MAX_KEPT_CHARS = 64 * 1024

/**
 * The user files of images. A container that nothing has run in yet has those of its image, which never change: they are
 * read once, and the creation of a container does not have to wait for its root file system to be mounted.
 */
export class ImageUserFiles {
  readonly #kernel: Pick<Kernel, 'readInRoot'>
  readonly #kept = new Map<string, UserFiles>()

  constructor(deps: { readonly kernel: Pick<Kernel, 'readInRoot'> }) {
    this.#kernel = deps.kernel
  }

  /** @param mounted resolves to a root file system of the image; it is waited for only when the files are not known yet. */
  async of(imageId: string, mounted: () => Promise<string>): Promise<UserFiles> {
    const kept = this.#kept.get(imageId)
    if (kept) return kept
    const root = await mounted()
    const read = (path: string): Promise<string | null> =>
      this.#kernel.readInRoot({ root, path, maxBytes: MAX_FILE_BYTES })
    const [passwd, group] = await Promise.all([read('/etc/passwd'), read('/etc/group')])
    const files = { passwd, group }
    if ((passwd?.length ?? 0) + (group?.length ?? 0) <= MAX_KEPT_CHARS) this.#keep(imageId, files)
    return files
  }

  #keep(imageId: string, files: UserFiles): void {
    const [oldest] = this.#kept.keys()
    if (oldest !== undefined && this.#kept.size >= MAX_KEPT) this.#kept.delete(oldest)
    this.#kept.set(imageId, files)
  }
}
