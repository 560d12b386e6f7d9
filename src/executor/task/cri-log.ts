import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { CodedError, errnoOf } from '../../core/errors.ts'
import { preciseNowNs } from '../../core/now.ts'
import type { OutputName } from '../attach/records.ts'
import { writeRecords } from './cri-records.ts'

const MODE = 0o600
const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK
const NEWLINE = 0x0a

/** Where a log is to be written. */
export interface LogTarget {
  /** Absolute. */
  readonly path: string
  /** The directory that the caller chose, below which no link is followed; `''` is none. */
  readonly root: string
  /** When it would become longer, it is begun anew. 0 is no limit. */
  readonly maxBytes: number
}

/** The log of a container in the CRI's format, written by synchronous calls: for a thread that may wait for the disk. */
export class CriLog implements Disposable {
  readonly #target: LogTarget
  #fd: number
  #sizeBytes: number
  /** A record could not be written as a whole: the next begins a line of its own. */
  #isTorn = false

  /** Goes on where an earlier one has stopped. @throws CodedError `FailedPrecondition` for what is no file in its place. */
  constructor(target: LogTarget) {
    this.#target = target
    using directory = openDirectory(target)
    this.#fd = openFile(join(directory.path, basename(target.path)), target.path, FLAGS)
    this.#sizeBytes = fstatSync(this.#fd).size
    this.#isTorn = this.#sizeBytes > 0 && !endsWithNewline(join(directory.path, basename(target.path)))
  }

  /**
   * Writes what was printed. What the disk does not take is dropped, as conmon does: a full disk stops no container.
   * @throws Error of the system call, after which the log can be gone on with.
   */
  append(stream: OutputName, chunk: Uint8Array): void {
    const maxBytes = this.#target.maxBytes || Number.POSITIVE_INFINITY
    const timeNs = preciseNowNs()
    const room = maxBytes - this.#sizeBytes
    writeRecords({ stream, chunk, timeNs }, { room, maxBytes }, (records) => {
      if (this.#sizeBytes > 0 && this.#sizeBytes + records.length > maxBytes) this.#begin()
      this.#write(records)
    })
  }

  /** Goes on in a new file when the one at the path is not ours (any more). @throws as the constructor does. */
  reopen(): void {
    using directory = openDirectory(this.#target)
    const ours = fstatSync(this.#fd)
    const there = lstatSync(join(directory.path, basename(this.#target.path)), { throwIfNoEntry: false })
    if (there?.dev !== ours.dev || there.ino !== ours.ino) this.#begin()
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }

  /** As conmon does it: a new file that then is given the name, so that those who follow the log see each. */
  #begin(): void {
    using directory = openDirectory(this.#target)
    const path = join(directory.path, basename(this.#target.path))
    const temporary = `${path}.tmp`
    rmSync(temporary, { force: true })
    const fd = openFile(temporary, `${this.#target.path}.tmp`, FLAGS | constants.O_EXCL)
    try {
      renameSync(temporary, path)
    } catch (error) {
      closeSync(fd)
      throw error
    }
    closeSync(this.#fd)
    this.#fd = fd
    this.#sizeBytes = 0
    this.#isTorn = false
  }

  #write(records: Uint8Array): void {
    if (this.#isTorn) this.#sizeBytes += writeSync(this.#fd, '\n')
    this.#isTorn = false
    for (let written = 0; written < records.length; ) {
      const count = writeSync(this.#fd, records, written, records.length - written)
      this.#sizeBytes += count
      written += count
      this.#isTorn = records[written - 1] !== NEWLINE
    }
  }
}

/** The directory of a log, by a path that stays the same one's whatever becomes of the names above it. */
function openDirectory({ path, root }: LogTarget): Disposable & { readonly path: string } {
  const directory = dirname(path)
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  const opened = { path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) }
  if (root === '' || readlinkSync(opened.path) === join(realpathSync(root), relative(root, directory))) return opened
  closeSync(fd)
  throw new CodedError('FailedPrecondition', `log path ${directory}: there is a link below ${root}`)
}

function openFile(place: string, path: string, flags: number): number {
  let fd: number
  try {
    fd = openSync(place, flags, MODE)
  } catch (error) {
    throw new CodedError('FailedPrecondition', `open log ${path}: ${errnoOf(error)}`, { cause: error })
  }
  if (fstatSync(fd).isFile()) return fd
  closeSync(fd)
  throw new CodedError('FailedPrecondition', `log path ${path}: there is something else in place of a file`)
}

function endsWithNewline(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const last = Buffer.alloc(1)
    return readLast(fd, last) === 0 || last[0] === NEWLINE
  } finally {
    closeSync(fd)
  }
}

function readLast(fd: number, into: Buffer): number {
  return readSync(fd, into, 0, 1, Math.max(0, fstatSync(fd).size - 1))
}
