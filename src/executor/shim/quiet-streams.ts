import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Libc } from '../../host/libc.ts'
import { removeFile } from '../../host/files.ts'

const NAMES = ['stdin', 'stdout', 'stderr'] as const

/** Paths for a Create call. Disposed of when that has been answered: input then ends, and output goes nowhere. */
export interface QuietStreams extends AsyncDisposable {
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
}

/**
 * FIFOs for a container that has no use for its standard streams. Where it has a user namespace it must not do without: a shim
 * opens the node's /dev/null for what is missing, and crun (until August 2025) gives that to the root of the namespace.
 */
export async function openQuietStreams(libc: Libc, directory: string): Promise<QuietStreams> {
  const files: FileHandle[] = []
  const close = async (): Promise<void> => {
    await Promise.all(files.map((file) => file.close()))
  }
  try {
    const paths = NAMES.map((name) => join(directory, name))
    for (const path of paths) {
      await removeFile(path)
      libc.mkfifo(path, 0o600)
      // Both ends, so that the shim waits for nobody.
      files.push(await open(path, constants.O_RDWR | constants.O_NONBLOCK))
    }
    const [stdin = '', stdout = '', stderr = ''] = paths
    return { stdin, stdout, stderr, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}
