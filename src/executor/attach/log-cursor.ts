import { fstatSync, readSync } from 'node:fs'
import { CodedError } from '../../core/errors.ts'
import type { LogFile } from './log-file.ts'
import { LogRecords, type OutputName } from './records.ts'

const CHUNK = 64 * 1024
/** So much is read for one client before the others have their turn. */
const CHUNKS_A_TURN = 4

// There is one log thread, and nothing is kept in these from one call to the next.
const input = Buffer.alloc(CHUNK)
const output = Buffer.alloc(CHUNK)

/** What a cursor needs of the log that it is in. */
export interface CursorLog {
  readonly path: string
  /** How many files conmon has replaced before they could be opened. */
  readonly lostFiles: number
  /** The file after this one, if there is one yet; null when this one is kept no longer. */
  after(file: LogFile): LogFile | undefined | null
  /** Looks whether there is anything new. */
  look(): void
  /** Gives back what no client is going to read: this one has gone, or one has gone on to another file. */
  forget(cursor?: LogCursor): void
}

/** One client's place in a log. */
export class LogCursor implements Disposable {
  readonly #log: CursorLog
  readonly #records: LogRecords
  readonly #lostBefore: number
  #file: LogFile
  #offset: number
  #isEnded = false
  #waiting: { resolve: (chunk: Uint8Array | null) => void; reject: (error: unknown) => void } | undefined

  constructor(log: CursorLog, stream: OutputName, start: { readonly file: LogFile; readonly offset: number }) {
    this.#log = log
    this.#records = new LogRecords(stream)
    this.#lostBefore = log.lostFiles
    this.#file = start.file
    this.#offset = start.offset
  }

  get file(): LogFile {
    return this.#file
  }

  /** How much of the file has been read. */
  get offset(): number {
    return this.#offset
  }

  /**
   * What was printed next, as soon as there is something, and null after the last. One call at a time.
   * @throws CodedError `DataLoss` when conmon began its log anew faster than it could be read, `ResourceExhausted` when
   * the client is too far behind for what it has not read to be kept.
   */
  async read(): Promise<Uint8Array | null> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.wake()
    })
  }

  /** Nobody writes to the log any more. */
  end(): void {
    this.#isEnded = true
    this.#log.look()
  }

  /** Answers the call that waits, if there is one and something to tell. */
  wake(): void {
    if (!this.#waiting) return
    try {
      const chunk = this.#next()
      if (chunk !== undefined) this.#answer(chunk)
    } catch (error) {
      this.fail(error)
    }
  }

  fail(error: unknown): void {
    this.#waiting?.reject(error)
    this.#waiting = undefined
  }

  [Symbol.dispose](): void {
    this.#log.forget(this)
    this.#answer(null)
  }

  #answer(chunk: Uint8Array | null): void {
    this.#waiting?.resolve(chunk)
    this.#waiting = undefined
  }

  /** Undefined when there is nothing yet. */
  #next(): Uint8Array | null | undefined {
    const { path, lostFiles } = this.#log
    if (lostFiles > this.#lostBefore)
      throw new CodedError('DataLoss', `log ${path}: some was replaced before it was read`)
    for (let chunks = 0; chunks < CHUNKS_A_TURN; chunks++) {
      // Asked before the file is read: what is its end then, stays it.
      const next = this.#log.after(this.#file)
      if (next === null) throw new CodedError('ResourceExhausted', `log ${path}: its client is too slow`)
      const bytes = readSync(this.#file.fd, input, 0, CHUNK, this.#offset)
      if (bytes > 0) {
        this.#offset += bytes
        const length = this.#records.take(input.subarray(0, bytes), output)
        if (length > 0) return Uint8Array.prototype.slice.call(output, 0, length)
      } else if (next) {
        this.#goTo(next)
      } else if (fstatSync(this.#file.fd).size < this.#offset) {
        // Somebody has cut it.
        this.#goTo(this.#file)
      } else {
        return this.#isEnded ? null : undefined
      }
    }
    setImmediate(() => this.wake())
    return undefined
  }

  #goTo(file: LogFile): void {
    this.#file = file
    this.#offset = 0
    this.#records.restart()
    this.#log.forget()
  }
}
