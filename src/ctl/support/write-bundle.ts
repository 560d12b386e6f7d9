import { open, unlink } from 'node:fs/promises'
import { CodedError, errnoOf, errorMessage } from '../../core/errors.ts'

/**
 * Writes a file that only its owner can read. One that is there already, a link as well, is left as it is.
 * @throws CodedError `AlreadyExists`, or what the file system says; no half of it is left then.
 */
export async function writeBundle(path: string, content: Buffer): Promise<void> {
  let isOurs = false
  try {
    const file = await open(path, 'wx', 0o600)
    isOurs = true
    try {
      await file.writeFile(content)
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (isOurs) await unlink(path).catch(() => undefined)
    const code = errnoOf(cause) === 'EEXIST' ? 'AlreadyExists' : 'Internal'
    throw new CodedError(code, `write ${path}: ${errorMessage(cause)}`, { cause })
  }
}
