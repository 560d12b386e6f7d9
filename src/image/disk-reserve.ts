import { open } from 'node:fs/promises'
import type { Logger } from 'pino'
import { CodedError, errorMessage } from '../core/errors.ts'
import { removeFile } from '../host/files.ts'

/** What the store's tools write anew when an image goes: their records, some KiB for each image. */
const RESERVE_BYTES = 4 * 1024 * 1024

/** Space that is kept so that images can be removed from a full disk, which takes some space itself. */
export class DiskReserve {
  readonly #path: string
  readonly #logger: Logger

  constructor(options: { readonly path: string }, deps: { readonly logger: Logger }) {
    this.#path = options.path
    this.#logger = deps.logger
  }

  /** Takes the space; one that cannot be taken now is when there is room again. */
  async fill(): Promise<void> {
    try {
      await using file = await open(this.#path, 'w', 0o600)
      await file.writeFile(Buffer.alloc(RESERVE_BYTES))
    } catch (error) {
      this.#logger.debug({ error: errorMessage(error) }, 'no space to reserve')
    }
  }

  /** Does the work; when it fails for want of space, once more with what was reserved. */
  async spendOn<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof CodedError && error.code === 'ResourceExhausted')) throw error
      await removeFile(this.#path)
      try {
        return await work()
      } finally {
        await this.fill()
      }
    }
  }
}
