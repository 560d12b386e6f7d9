import { constants, fstatSync, openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { errnoOf } from '../core/errors.ts'

interface LineOutputOptions {
  /** Where to write. It is not closed. */
  readonly fd: number
  /** While the reader does not read: lines beyond this many waiting bytes are dropped. */
  readonly maxWaitingBytes: number
  /** Called when lines are written again after `lines` of them were dropped. */
  readonly onDropped: (lines: number) => void
  /** Called at the first failure. Lines go on being tried: a full disk may have room again. */
  readonly onError: (error: unknown) => void
}

const RETRY_MS = 20
/** How long the exit of the process waits for a reader that does not read. */
const EXIT_WAIT_MS = 1000

/**
 * Writes lines to a descriptor at once, in order, on the calling thread, and keeps only what the reader does not take yet.
 * So no line is lost when the process exits, by `process.exit` and an uncaught exception too; and nothing is ever blocked,
 * not even one of the few threads of the file system. It lives as long as the process.
 */
export class LineOutput {
  readonly #options: LineOutputOptions
  readonly #target: { readonly fd: number }
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  #dropped = 0
  #hasFailed = false
  /** The last thing written was a part of a line. */
  #isTorn = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: LineOutputOptions) {
    this.#options = options
    this.#target = openNonBlocking(options.fd)
    process.once('exit', () => this.#flushAtExit())
  }

  /** Never throws and never waits. */
  write(line: string): void {
    // What a failed write left of a line must not become the beginning of this one.
    const bytes = Buffer.from(this.#isTorn && this.#waiting.length === 0 ? `\n${line}` : line)
    if (this.#waitingBytes + bytes.length > this.#options.maxWaitingBytes) {
      this.#dropped++
      return
    }
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#timer === undefined) this.#flush()
  }

  #flush(): void {
    this.#timer = undefined
    const result = this.#writeWaiting()
    if (result === 'full') this.#timer = setTimeout(() => this.#flush(), RETRY_MS).unref()
    if (result !== 'done' || this.#dropped === 0) return
    const lines = this.#dropped
    this.#dropped = 0
    this.#options.onDropped(lines)
  }

  #writeWaiting(): 'done' | 'full' | 'failed' {
    for (let [line] = this.#waiting; line !== undefined; [line] = this.#waiting) {
      try {
        const count = writeSync(this.#target.fd, line)
        this.#waitingBytes -= count
        this.#isTorn = count < line.length
        if (this.#isTorn) this.#waiting[0] = line.subarray(count)
        else this.#waiting.shift()
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') return 'full'
        this.#fail(error)
        return 'failed'
      }
    }
    return 'done'
  }

  #fail(error: unknown): void {
    this.#dropped += this.#waiting.length
    this.#waiting.length = 0
    this.#waitingBytes = 0
    if (!this.#hasFailed) this.#options.onError(error)
    this.#hasFailed = true
  }

  #flushAtExit(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4))
    const until = Date.now() + EXIT_WAIT_MS
    while (this.#writeWaiting() === 'full' && Date.now() < until) Atomics.wait(clock, 0, 0, RETRY_MS)
  }
}

/**
 * The same output without blocking. A pipe, a terminal or a file is opened anew, because O_NONBLOCK holds for all that
 * share the open file. A socket (the journal) cannot be; there libuv sets the flag, and does nothing else as long as nothing
 * is written through it. The Socket must be kept: collected, it would close the descriptor.
 */
function openNonBlocking(fd: number): { readonly fd: number; readonly socket?: Socket } {
  if (fstatSync(fd).isSocket()) return { fd, socket: new Socket({ fd, readable: false, writable: true }).unref() }
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY
  try {
    return { fd: openSync(`/proc/self/fd/${fd}`, flags) }
  } catch {
    // Not ours to open (another user's file), or no /proc: the descriptor as it is still works, though it may block.
    return { fd }
  }
}
