import { access, type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, unlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { errnoOf } from '../core/errors.ts'

/**
 * Replaces a file so that after a crash there is either the old content or the whole new one:
 * temporary file in the same directory, fsync, rename, fsync of the directory.
 */
export async function writeFileAtomic(path: string, content: string | Buffer, mode = 0o600): Promise<void> {
  const temporary = `${path}.tmp`
  // A crash may have left the temporary name behind; it must not block this save.
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

/** Makes the names in a directory durable. */
async function syncDirectory(path: string): Promise<void> {
  const directory: FileHandle = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** The content of a text file, or undefined when there is none. */
export async function readTextIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Removes a file; a missing one is success. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** Makes a directory of ours (0700 unless told), with its parents. */
export async function makeDirectory(path: string, mode = 0o700): Promise<void> {
  await mkdir(path, { recursive: true, mode })
}

/**
 * Removes a directory of ours with all that is in it; a missing one is success. Links are removed, never followed.
 * Only for directories that nobody but us writes to: they are shallow.
 */
export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true })
}

/** The files in a directory of ours and below, by their relative paths, in order. */
export async function listFiles(directory: string): Promise<{ readonly path: string; readonly sizeBytes: number }[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true })
  const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
  const files = await Promise.all(
    paths.map(async (path) => ({ path: relative(directory, path), sizeBytes: (await stat(path)).size })),
  )
  return files.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Whether there is nothing at a path. What cannot be looked at is taken for something. */
export async function isMissing(path: string): Promise<boolean> {
  return access(path).then(
    () => false,
    (error: unknown) => errnoOf(error) === 'ENOENT',
  )
}
