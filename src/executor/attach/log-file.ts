import { closeSync, constants, fstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { CodedError, errnoOf } from '../../core/errors.ts'

/** Not through a link, and without waiting for whoever may be at the other end of a FIFO. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY
const NEWLINE = 0x0a
/** Longer than any record of conmon. */
const MAX_RECORD = 16 * 1024
/** conmon takes microseconds from the opening of a new log to giving it its name. */
const RENAME_MS = 20

/** One of the files that a log consists of. */
export interface LogFile {
  readonly fd: number
  readonly dev: number
  readonly ino: number
}

/** Opens a file in a directory; null when nothing is there, or anything but a file. */
export function openLogFile(directoryFd: number, name: string): LogFile | null {
  return opened(`/proc/self/fd/${directoryFd}/${name}`, FLAGS)
}

/**
 * Opens the file that the monitor writes to, which is not the one at the log's path while that is being rotated.
 * @throws CodedError `FailedPrecondition` when there is none, neither.
 */
export function openCurrentLogFile(directoryFd: number, path: string, monitorPid: number | null): LogFile {
  const name = basename(path)
  for (let waitedMs = 0; monitorPid !== null && waitedMs < RENAME_MS; waitedMs++) {
    const written = writtenIn(readlinkSync(`/proc/self/fd/${directoryFd}`), monitorPid)
    // Its name is still the one that conmon gives it for a moment: that at the path is the one before.
    const isBeingRenamed = written !== null && basename(written.link) === `${name}.tmp`
    const file = written && !isBeingRenamed ? opened(written.fd, FLAGS & ~constants.O_NOFOLLOW) : null
    if (file) return file
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
  }
  const file = openLogFile(directoryFd, name)
  if (file) return file
  throw new CodedError('FailedPrecondition', `log ${path}: there is no such file`)
}

/** Where the last whole record of a file ends. */
export function endOfRecords(file: LogFile): number {
  const { size } = fstatSync(file.fd)
  const from = Math.max(0, size - MAX_RECORD)
  const tail = Buffer.alloc(size - from)
  const read = readSync(file.fd, tail, 0, tail.length, from)
  return from + tail.subarray(0, read).lastIndexOf(NEWLINE) + 1
}

/** What a process has open in a directory. */
function writtenIn(directory: string, pid: number): { fd: string; link: string } | null {
  const fds = `/proc/${pid}/fd`
  try {
    for (const fd of readdirSync(fds)) {
      const link = readlinkSync(`${fds}/${fd}`).replace(/ \(deleted\)$/, '')
      if (dirname(link) === directory) return { fd: `${fds}/${fd}`, link }
    }
  } catch (error) {
    // It has ended, or has just closed one.
    if (!['ENOENT', 'ESRCH', 'EACCES'].includes(errnoOf(error) ?? '')) throw error
  }
  return null
}

function opened(path: string, flags: number): LogFile | null {
  let fd: number
  try {
    fd = openSync(path, flags)
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'ELOOP', 'ENXIO'].includes(errnoOf(error) ?? '')) return null
    throw error
  }
  const stats = fstatSync(fd)
  if (stats.isFile()) return { fd, dev: stats.dev, ino: stats.ino }
  closeSync(fd)
  return null
}
