import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, errorMessage } from '../core/errors.ts'
import { type CdiSpec, cdiSpecSchema } from './cdi-spec.ts'

const MAX_FILE_BYTES = 4 * 1024 * 1024
const MAX_FILES = 1000

/** What the directories of CDI specs hold. Specs of a later directory come before those of an earlier one. */
export interface SpecFiles {
  /** One list for each directory: what it says counts before the lists that follow. */
  readonly byPriority: readonly (readonly CdiSpec[])[]
  /** One line for each file that cannot be used: what it is and why. */
  readonly problems: readonly string[]
}

/**
 * Reads `*.json` in the given directories, of which the last has the highest priority; a directory that is not there is
 * empty. Never throws for a file: which devices it would have described, nobody knows.
 */
export async function readSpecFiles(dirs: readonly string[]): Promise<SpecFiles> {
  const problems: string[] = []
  const byPriority: CdiSpec[][] = []
  for (const dir of dirs.toReversed()) {
    const specs: CdiSpec[] = []
    for (const path of await specPaths(dir, problems)) {
      try {
        specs.push(await readSpec(path))
      } catch (error) {
        problems.push(`${path}: ${errorMessage(error)}`)
      }
    }
    byPriority.push(specs)
  }
  return { byPriority, problems }
}

async function specPaths(dir: string, problems: string[]): Promise<string[]> {
  let names: string[]
  try {
    names = await readdir(dir)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') problems.push(`${dir}: ${errorMessage(error)}`)
    return []
  }
  for (const name of names) {
    if (/\.ya?ml$/.test(name)) problems.push(`${join(dir, name)}: YAML is not read, write it as JSON`)
  }
  const paths = names
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => join(dir, name))
  if (paths.length > MAX_FILES) problems.push(`${dir}: only the first ${MAX_FILES} files are read`)
  return paths.slice(0, MAX_FILES)
}

async function readSpec(path: string): Promise<CdiSpec> {
  const text = await readBounded(path)
  const result = cdiSpecSchema.safeParse(JSON.parse(text))
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new Error(`${issue?.path.join('.') || 'spec'}: ${issue?.message ?? 'not valid'}`)
}

async function readBounded(path: string): Promise<string> {
  // Without waiting: whoever opens a FIFO otherwise waits for ever, and holds a thread.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const stats = await file.stat()
  const { size } = stats
  if (!stats.isFile()) throw new Error('not a regular file')
  if (size > MAX_FILE_BYTES) throw new Error(`larger than ${MAX_FILE_BYTES} bytes`)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0)
  return buffer.toString('utf8', 0, bytesRead)
}
