import { constants } from 'node:fs'
import { open, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'
import { isMissing } from '../host/files.ts'

const START_FIFO = 'exec.fifo'

/**
 * Starts a created container of crun by itself doing what `crun start` does: a container without hooks waits for one
 * byte in the FIFO `exec.fifo` of its state directory, and counts as created for as long as that file is there. That
 * saves a process in the way of every pod.
 *
 * @returns false when there is no such FIFO with somebody reading from it: then nothing was done, and the runtime has
 * to be asked.
 */
export async function startByFifo(stateDir: string): Promise<boolean> {
  const path = join(stateDir, START_FIFO)
  let fifo: Awaited<ReturnType<typeof open>>
  try {
    // Without a reader (runc's container writes instead) this fails at once.
    fifo = await open(path, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (['ENXIO', 'ENOENT'].includes(errnoOf(error) ?? '')) return false
    throw error
  }
  try {
    if (!(await fifo.stat()).isFIFO()) return false
    await unlink(path)
    await fifo.write(Buffer.of(0))
    return true
  } finally {
    await fifo.close()
  }
}

/** When the process of a container went past that FIFO, in nanoseconds since the epoch; null while it waits there. */
export async function startedAtNs(stateDir: string): Promise<bigint | null> {
  if (!(await isMissing(join(stateDir, START_FIFO)))) return null
  return BigInt(Math.round((await stat(stateDir)).mtimeMs * 1e6))
}
