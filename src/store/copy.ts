import { copyFile, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CodedError, errnoOf } from '../core/errors.ts'
import { openStore } from './database.ts'
import type { Loaded } from './rows.ts'

const ATTEMPTS = 10
/** See sqlite.org/fileformat2.html, 4.1. */
const WAL_HEADER_BYTES = 32

/**
 * Reads a database that may be somebody else's at any moment: from a private copy, so that whoever has it, or takes it
 * up meanwhile, is not held up and finds no file, lock or byte changed. What is damaged is told by `setAside`, and then
 * nothing of it is known. Without a file everything is empty.
 *
 * @throws CodedError `FailedPrecondition` for one that a newer sandboxerd has written, `Unavailable` when it changes
 * faster than it can be copied.
 */
export async function readStoreCopy(path: string): Promise<Loaded> {
  const directory = await mkdtemp(join(tmpdir(), 'sandboxerctl-'))
  try {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const copy = join(directory, `${attempt}.db`)
      const before = await stateOf(path)
      if (before === '') return EMPTY
      await copyIfAny(path, copy)
      // What a daemon writes while this is copied stands at its end, where half a commit counts as none.
      await copyIfAny(`${path}-wal`, `${copy}-wal`)
      // The log was folded into the database, or begun anew: then what was copied belongs to different moments.
      if ((await stateOf(path)) !== before) continue
      return loadCopy(copy, path)
    }
    throw new CodedError('Unavailable', `read ${path}: it changes faster than it can be copied`)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** What is said of the copy is said of the original: nobody else knows the copy. */
function loadCopy(copy: string, path: string): Loaded {
  try {
    const file = openStore(copy, new Date())
    file.close()
    const { setAside } = file.loaded
    return setAside ? { ...file.loaded, setAside: { ...setAside, path } } : file.loaded
  } catch (error) {
    if (!(error instanceof CodedError)) throw error
    throw new CodedError(error.code, error.message.replaceAll(copy, path), { cause: error.cause })
  }
}

const EMPTY: Loaded = { sandboxes: [], networks: [], containers: [], ledger: [], node: {}, setAside: undefined }

/** What tells one state of a database from another, but for what its log has grown by; `''` when there is none. */
async function stateOf(path: string): Promise<string> {
  return ifAny('', async () => {
    const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [ino, size, mtimeNs, ctimeNs, await headerOf(`${path}-wal`)].join(' ')
  })
}

/** The header of a log, which is another one whenever it is written from its beginning again. */
async function headerOf(path: string): Promise<string> {
  return ifAny('', async () => {
    await using file = await open(path)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(WAL_HEADER_BYTES))
    return buffer.toString('hex', 0, bytesRead)
  })
}

async function copyIfAny(from: string, to: string): Promise<void> {
  await ifAny(undefined, () => copyFile(from, to))
}

async function ifAny<T>(otherwise: T, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return otherwise
    throw error
  }
}
