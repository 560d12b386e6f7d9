import { closeSync, constants, fstatSync, type FSWatcher, openSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import { type CursorLog, LogCursor } from './log-cursor.ts'
import { endOfRecords, type LogFile, openCurrentLogFile, openLogFile } from './log-file.ts'
import type { OutputName } from './records.ts'

/** What is kept of a rotated log, which takes room on the disk, for a client that has not read it yet. */
const MAX_BEHIND_FILES = 64
const MAX_BEHIND_BYTES = 64 * 1024 * 1024

/**
 * The log of one container, followed for any number of clients, by synchronous calls: for a thread of its own.
 *
 * A new file at the path comes after the one before: it is there only when the monitor has closed that, which is
 * read to its end first. inotify says when to look; {@link look} is the truth behind it.
 */
export class FollowedLog implements CursorLog, Disposable {
  readonly path: string
  readonly #name: string
  readonly #directoryFd: number
  #watcher: FSWatcher | undefined
  readonly #cursors = new Set<LogCursor>()
  readonly #files: LogFile[] = []
  /** The name that the last event gave to a file. */
  #lastRenamed = ''
  #renames = 0
  #found = 0

  /** @throws CodedError `FailedPrecondition` when there is no log. */
  constructor(place: { readonly path: string; readonly monitorPid: number | null }) {
    const { path, monitorPid } = place
    this.path = path
    this.#name = basename(path)
    // From here on the directory is this one, whatever becomes of the names above it.
    this.#directoryFd = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      this.#files.push(openCurrentLogFile(this.#directoryFd, path, monitorPid))
      this.#watcher = this.#watch()
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  /** Begins to read one stream, with the record that is written next. */
  cursor(stream: OutputName): LogCursor {
    this.#findNewest()
    const newest = this.#files.at(-1)
    if (!newest) throw new CodedError('FailedPrecondition', `log ${this.path}: it is closed`)
    const cursor = new LogCursor(this, stream, { file: newest, offset: endOfRecords(newest) })
    this.#cursors.add(cursor)
    return cursor
  }

  get lostFiles(): number {
    return Math.max(0, this.#renames - this.#found)
  }

  after(file: LogFile): LogFile | undefined | null {
    const index = this.#files.indexOf(file)
    return index === -1 ? null : this.#files[index + 1]
  }

  look(): void {
    try {
      this.#findNewest()
      for (const cursor of this.#cursors) cursor.wake()
    } catch (error) {
      for (const cursor of this.#cursors) cursor.fail(error)
    }
  }

  forget(cursor?: LogCursor): void {
    if (cursor) this.#cursors.delete(cursor)
    const used = new Set([...this.#cursors].map(({ file }) => file))
    while (this.#files.length > 1 && this.#files[0] && !used.has(this.#files[0])) this.#dropOldest()
  }

  [Symbol.dispose](): void {
    this.#watcher?.close()
    while (this.#files.length > 0) this.#dropOldest()
    closeSync(this.#directoryFd)
  }

  #watch(): FSWatcher | undefined {
    try {
      const watcher = watch(`/proc/self/fd/${this.#directoryFd}`, (type, name) => this.#onEvent(type, name ?? ''))
      watcher.on('error', () => watcher.close())
      return watcher
    } catch {
      // There are no more watches to be had: what is new is seen when somebody looks.
      return undefined
    }
  }

  #onEvent(type: string, name: string): void {
    // A rotated log is still written to for a moment, and has its old name in the new one.
    if (!name.startsWith(this.#name)) return
    const before = this.#lastRenamed
    this.#lastRenamed = type === 'rename' ? name : ''
    if (type !== 'rename' || name !== this.#name) {
      for (const cursor of this.#cursors) cursor.wake()
      return
    }
    // conmon gives a new file its name by renaming it: the kernel tells both names, one right after the other.
    if (before === `${name}.tmp`) this.#renames++
    this.look()
  }

  #findNewest(): void {
    const file = openLogFile(this.#directoryFd, this.#name)
    if (!file) return
    const newest = this.#files.at(-1)
    if (newest?.dev === file.dev && newest.ino === file.ino) return closeSync(file.fd)
    this.#files.push(file)
    this.#found++
    this.forget()
    while (this.#isTooMuchBehind()) {
      this.#dropOldest()
      this.forget()
    }
  }

  #isTooMuchBehind(): boolean {
    const behind = this.#files.slice(0, -1)
    const bytes = behind.reduce((sum, { fd }) => sum + fstatSync(fd).size, 0)
    const offsets = [...this.#cursors].filter(({ file }) => file === behind[0]).map(({ offset }) => offset)
    return behind.length > MAX_BEHIND_FILES || bytes - Math.min(...offsets) > MAX_BEHIND_BYTES
  }

  #dropOldest(): void {
    const oldest = this.#files.shift()
    if (oldest) closeSync(oldest.fd)
  }
}
