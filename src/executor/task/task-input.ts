import { closeSync, constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { sleep } from '../../core/deadline.ts'
import { errnoOf } from '../../core/errors.ts'
import type { Descriptors } from '../../host/descriptors.ts'
import type { AttachInput } from '../attach/session.ts'

/** A shim opens its end a moment after it has answered: until then we are the reader that makes writing possible. */
const KEEP_MS = 1000
const MAX_PAUSE_MS = 20

export interface TaskInputOptions {
  /** Of the FIFO. */
  readonly path: string
  /** Whether the input ends with the first who ends it. */
  readonly closes: boolean
  /** Of a terminal, which would hang up if its input ended: its end is typed. */
  readonly terminal: boolean
}

export interface TaskInputDeps {
  readonly descriptors: Descriptors
  /** Tells the service to end the input. */
  readonly closeIo: () => Promise<void>
  /** The character that ends the input of who reads lines from the terminal; null when it is not read in lines. */
  readonly endOfFile: () => number | null
}

/** The input of one process, for all who write to it. What nobody reads any more is dropped. */
export class TaskInput implements AttachInput, Disposable {
  readonly #options: TaskInputOptions
  readonly #deps: TaskInputDeps
  /** Reads nothing: it stands in for the reader that is to come. */
  #keeper: number | undefined
  #writer: number | undefined
  #socket: Socket | undefined
  #timer: NodeJS.Timeout | undefined
  #lastTyped: number | undefined
  #isOver = false

  /**
   * Opens the FIFO. @param isNew its reader is still to come; otherwise there is one, or the input is over.
   */
  constructor(options: TaskInputOptions, deps: TaskInputDeps, isNew: boolean) {
    this.#options = options
    this.#deps = deps
    try {
      if (isNew) this.#keeper = openSync(options.path, constants.O_RDWR | constants.O_NONBLOCK)
      this.#writer = openSync(options.path, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch (error) {
      this[Symbol.dispose]()
      // Nobody reads from it, or it is gone.
      if (!['ENXIO', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error
    }
  }

  /** Its reader has been told to come. */
  begun(): void {
    this.#timer = setTimeout(() => this.#dropKeeper(), KEEP_MS)
    this.#timer.unref()
  }

  async write(chunk: Buffer): Promise<void> {
    const socket = this.#open()
    if (!socket) return
    this.#lastTyped = chunk.at(-1) ?? this.#lastTyped
    await new Promise<void>((resolve) => {
      // It may be destroyed before its turn comes.
      const done = (): void => {
        socket.off('close', done)
        resolve()
      }
      socket.once('close', done)
      socket.write(chunk, done)
    })
  }

  async endInput(): Promise<void> {
    if (this.#isOver || !this.#options.closes) return
    if (this.#options.terminal) return this.#typeEnd()
    this.#isOver = true
    this.#socket?.end()
    const keeper = this.#keeper
    if (keeper !== undefined) {
      const end = performance.now() + KEEP_MS
      // What was written is with its reader when nothing of it is left here.
      for (
        let pause = 1;
        performance.now() < end && this.#keeper !== undefined;
        pause = Math.min(pause * 2, MAX_PAUSE_MS)
      ) {
        if (this.#deps.descriptors.bytesReadable(keeper) === 0) break
        await sleep(pause)
      }
    }
    this.#dropKeeper()
    if (!this.#socket) this.#closeWriter()
    await this.#deps.closeIo()
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    this.#dropKeeper()
    if (this.#socket) this.#socket.destroy()
    else this.#closeWriter()
  }

  /** At the beginning of a line one is an end; elsewhere it only hands on what there is of the line, and the second is. */
  async #typeEnd(): Promise<void> {
    const end = this.#deps.endOfFile()
    const isNewLine = this.#lastTyped === undefined || this.#lastTyped === 10 || this.#lastTyped === 13
    if (end !== null) await this.write(Buffer.from(isNewLine ? [end] : [end, end]))
  }

  #open(): Socket | undefined {
    if (this.#isOver || this.#writer === undefined) return undefined
    if (!this.#socket) {
      const socket = new Socket({ fd: this.#writer, readable: false, writable: true })
      // Nobody reads any more.
      socket.on('error', () => socket.destroy())
      socket.once('close', () => (this.#isOver = true))
      this.#socket = socket
    }
    return this.#socket
  }

  #dropKeeper(): void {
    clearTimeout(this.#timer)
    if (this.#keeper !== undefined) closeSync(this.#keeper)
    this.#keeper = undefined
  }

  #closeWriter(): void {
    if (this.#writer !== undefined) closeSync(this.#writer)
    this.#writer = undefined
  }
}
