import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { containersDir } from '../container/paths.ts'
import { makeDirectory } from '../host/files.ts'
import { sandboxesDir } from '../sandbox/paths.ts'

/** Where the record of everything is. */
export function databasePath(root: string): string {
  return join(root, 'sandboxerd.db')
}

/** Makes the directories of the daemon, and sets who may go through them: never for a moment fewer than before. */
export async function makeDirectories({ root, state }: Pick<Config, 'root' | 'state'>): Promise<void> {
  const rooms = [sandboxesDir, containersDir].flatMap((directoryIn) => [directoryIn(root), directoryIn(state)])
  // The root of a pod's user namespace has to get through to the root file systems of its containers, and a group that
  // may connect to the socket. What they pass is closed to them.
  const passed = new Set([root, state, containersDir(state)])
  for (const directory of [root, state, ...rooms, join(state, 'exits')]) {
    await makeDirectory(directory)
    await chmod(directory, passed.has(directory) ? 0o711 : 0o700)
  }
}
