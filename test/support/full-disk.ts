import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** Takes every last block of a file system; returns what gives them back. */
export function fill(directory: string): () => void {
  const path = join(directory, 'filler')
  const file = openSync(path, 'w')
  for (let size = 1 << 20; size >= 1; ) {
    try {
      if (writeSync(file, Buffer.alloc(size)) < size) size >>= 1
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      size >>= 1
    }
  }
  closeSync(file)
  return () => rmSync(path)
}
