import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'

/** What conmon can be told: a size of the terminal, or to reopen its log, of which it looks at nothing but the 2. */
export type ControlMessage =
  | readonly [kind: 1, rows: number, columns: number]
  | readonly [kind: 2, unused: 0, unused: 0]

/**
 * Tells a container's monitor something, through the FIFO in its bundle directory. Messages arrive in order.
 * @returns false when the monitor has ended, or does not read.
 */
export function tellMonitor(bundleDir: string, message: ControlMessage): boolean {
  let fifo: number | undefined
  try {
    fifo = openSync(join(bundleDir, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK)
    writeSync(fifo, `${message.join(' ')}\n`)
    return true
  } catch (error) {
    // Nobody reads from it, or it is gone, or full.
    if (['ENXIO', 'ENOENT', 'EPIPE', 'EAGAIN'].includes(errnoOf(error) ?? '')) return false
    throw error
  } finally {
    if (fifo !== undefined) closeSync(fifo)
  }
}
