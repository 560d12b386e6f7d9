import { constants } from 'node:fs'
import { open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'

/**
 * Starts a created container of crun by itself doing what `crun start` does: a container without hooks waits for one
 * byte in the FIFO `exec.fifo` of its state directory, and counts as created for as long as that file is there. That
 * saves a process in the way of every pod.
 *
 * @returns false when there is no such FIFO with somebody reading from it: then nothing was done, and the runtime has
 * to be asked.
 */
export async function startByFifo(stateDir: string): Promise<boolean> {
  const path = join(stateDir, 'exec.fifo')
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
