import { readFileSync, statfsSync } from 'node:fs'
import { deviceOf } from './hierarchies.ts'
import type { LayerFileSystem } from './types.ts'

/** How large the file system below a directory is. May take as long as that file system does. */
export function readFileSystem(path: string): LayerFileSystem {
  const { bsize, blocks, files, ffree } = statfsSync(path)
  const device = deviceOf(readFileSync('/proc/self/mountinfo', 'latin1'), path)
  return { device, totalBytes: bsize * blocks, totalInodes: files, freeInodes: ffree }
}
