import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'
import { removeTree } from './files.ts'
import type { RunProgram } from './programs/outcome.ts'
import { ExecError, expectSuccess } from './programs/outcome.ts'

/** So many entries are removed faster by ourselves than a program is started. */
const FEW_ENTRIES = 256
const FEW_LEVELS = 16
const TIMEOUT_MS = 24 * 3600_000

/**
 * Removes a directory that a stranger has filled, with all that is in it: trees deeper than a path can name, millions of
 * files, files that were made immutable. What is large is removed by a program, which neither takes our memory nor our
 * file-system threads and ends with the signal; links are removed, never followed, and other file systems are left alone.
 */
export async function removeStrangersTree(path: string, run: RunProgram, signal: AbortSignal): Promise<void> {
  if (await isSmall(path)) {
    try {
      return await removeTree(path)
    } catch {
      // The program below tells why.
    }
  }
  const rm = ['-rf', '--one-file-system', '--', path]
  const options = { timeoutMs: TIMEOUT_MS, signal }
  try {
    expectSuccess('/bin/rm', rm, await run('/bin/rm', rm, options))
  } catch (error) {
    if (!(error instanceof ExecError) || error.exitCode === undefined) throw error
    // Root in a container with the capability for it can make files that even root cannot remove.
    await run('/usr/bin/chattr', ['-R', '-f', '-i', '-a', '--', path], options)
    expectSuccess('/bin/rm', rm, await run('/bin/rm', rm, options))
  }
}

async function isSmall(path: string): Promise<boolean> {
  let left = FEW_ENTRIES
  const fits = async (directory: string, depth: number): Promise<boolean> => {
    if (depth > FEW_LEVELS) return false
    const subdirectories: string[] = []
    for await (const entry of await opendir(directory)) {
      if (--left < 0) return false
      if (entry.isDirectory()) subdirectories.push(entry.name)
    }
    for (const name of subdirectories) if (!(await fits(join(directory, name), depth + 1))) return false
    return true
  }
  return fits(path, 0).catch((error: unknown) => errnoOf(error) === 'ENOENT')
}
