import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../core/errors.ts'
import { readTextIfAny } from '../../host/files.ts'
import type { ProcessIdentity } from '../../host/process.ts'

const NAME = /^exec-([0-9a-f]{16})$/
const PROCESS_FILE = 'process.json'

/** A command that was started, as it can be seen from this node. */
export interface StartedCommand {
  readonly process: ProcessIdentity
  /** See `ProcessTree`. */
  readonly held: readonly string[]
}

/** The directory of a command in the bundle of its container: it is there from before it is made until it is deleted. */
export function execDirectory(bundleDir: string, execId: string): string {
  return join(bundleDir, `exec-${execId}`)
}

export async function makeExecDirectory(bundleDir: string, execId: string): Promise<string> {
  const directory = execDirectory(bundleDir, execId)
  await mkdir(directory, { mode: 0o700 })
  return directory
}

/** The commands of a container that were not deleted. */
export async function listExecs(bundleDir: string): Promise<string[]> {
  try {
    return (await readdir(bundleDir)).flatMap((name) => NAME.exec(name)?.[1] ?? [])
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

export async function saveCommand(directory: string, command: StartedCommand): Promise<void> {
  await writeFile(join(directory, PROCESS_FILE), JSON.stringify(command))
}

/** Null when it was not started, or cannot be seen, or its daemon died over the writing. */
export async function loadCommand(directory: string): Promise<StartedCommand | null> {
  const text = await readTextIfAny(join(directory, PROCESS_FILE))
  try {
    return text === undefined ? null : (JSON.parse(text) as StartedCommand)
  } catch {
    return null
  }
}
