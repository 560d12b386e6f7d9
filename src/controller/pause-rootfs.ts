import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readFile, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import { makeDirectory, removeTree } from '../host/files.ts'

/** Mount points that OCI runtimes want to find in a root file system that they may not write to. */
const MOUNT_POINTS = ['proc', 'dev', 'sys']

/**
 * Makes the built-in root file system of pause containers: one static program, no image, no registry. It is made once
 * for each version of the program, so that pods which run an older one keep it.
 *
 * @returns the directory and the path of the program in it.
 * @throws CodedError `FailedPrecondition` when there is no such program.
 */
export async function buildPauseRootfs(
  directory: string,
  binary: string,
): Promise<{ readonly rootfsPath: string; readonly programPath: string }> {
  const program = await readFile(binary).catch((cause: unknown) => {
    throw new CodedError('FailedPrecondition', `read pause program ${binary}: ${errorMessage(cause)}`, { cause })
  })
  const hash = createHash('sha256').update(program).digest('hex').slice(0, 16)
  const name = basename(binary)
  const rootfsPath = join(directory, `${name}-${hash}`)
  if (!(await isThere(rootfsPath))) await build(rootfsPath, binary, name)
  return { rootfsPath, programPath: `/${name}` }
}

async function build(rootfsPath: string, binary: string, name: string): Promise<void> {
  const temporary = `${rootfsPath}.tmp`
  await removeTree(temporary)
  await makeDirectory(temporary, 0o755)
  for (const point of MOUNT_POINTS) await mkdir(join(temporary, point))
  await copyFile(binary, join(temporary, name))
  await chmod(join(temporary, name), 0o755)
  await rename(temporary, rootfsPath)
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
