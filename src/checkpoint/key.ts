import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CodedError, errnoOf } from '../core/errors.ts'
import { makeDirectory, writeFileAtomic } from '../host/files.ts'

const KEY_BYTES = 32

/**
 * The key under which checkpoints and rows are sealed; made at the first start.
 * @throws CodedError `FailedPrecondition` when the file is not 32 bytes, or others than its owner may read it.
 */
export async function loadOrCreateKey(path: string): Promise<Buffer> {
  try {
    return await loadKey(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    await makeDirectory(dirname(path))
    const key = randomBytes(KEY_BYTES)
    await writeFileAtomic(path, key, 0o600)
    return key
  }
}

/**
 * The key, which must be there.
 * @throws CodedError as {@link loadOrCreateKey}, Error `ENOENT` when there is none.
 */
export async function loadKey(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const { mode } = await file.stat()
    if ((mode & 0o077) !== 0) {
      throw new CodedError(
        'FailedPrecondition',
        `checkpoint key ${path}: mode ${(mode & 0o777).toString(8)} lets others read it`,
      )
    }
    const key = await file.readFile()
    if (key.length !== KEY_BYTES) {
      throw new CodedError('FailedPrecondition', `checkpoint key ${path}: ${key.length} bytes instead of ${KEY_BYTES}`)
    }
    return key
  } finally {
    await file.close()
  }
}
