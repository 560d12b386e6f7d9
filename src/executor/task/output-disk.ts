import { Readable } from 'node:stream'
import type { Logger } from 'pino'
import { deadline, sleep, waitFor } from '../../core/deadline.ts'
import { CodedError, errorMessage } from '../../core/errors.ts'
import { Thread, toBuffer } from '../../core/thread.ts'
import type { OutputName } from '../attach/records.ts'
import type { AttachedOutput } from '../attach/session.ts'
import type { LogTarget } from './cri-log.ts'
import type { OutputCalls, OutputFifo } from './output-calls.ts'

/** For the thread of a disk to open, or begin, a log. */
const ANSWER_MS = 10_000
/** Before a thread that died is followed by another. */
const AGAIN_MS = 1000
/** A thread that nobody needs goes after this time. */
const IDLE_MS = 60_000
/** For a thread to come to the end of what it is writing. */
const CLOSE_MS = 1000

export interface OutputRequest {
  /** Of the container, for messages. */
  readonly id: string
  readonly fifos: readonly OutputFifo[]
  /** Null: what is printed is for those who are attached, and otherwise dropped. */
  readonly log: LogTarget | null
  /** The number of the log's file system: only those that are on the same one wait for each other. */
  readonly device: string
  /** Of a container that prints already: what it prints is dropped while its log cannot be written. */
  readonly isResumed: boolean
}

interface Open {
  readonly request: OutputRequest
  /** Rejected when the output cannot be read. */
  ready: Promise<void>
}

/** The thread that writes the logs of one file system; another one when it has died. */
export class OutputDisk implements AsyncDisposable {
  readonly #logger: Logger
  readonly #onIdle: () => void
  readonly #open = new Map<number, Open>()
  readonly #tees = new Set<number>()
  #thread = newThread()
  #lastTee = 0
  #idle: NodeJS.Timeout | undefined
  #isClosed = false

  /** @param deps.onIdle is called when nobody has needed it for a while. */
  constructor(deps: { readonly logger: Logger; readonly onIdle: () => void }) {
    this.#logger = deps.logger
    this.#onIdle = deps.onIdle
    void this.#listen()
  }

  async open(key: number, request: OutputRequest, signal: AbortSignal): Promise<void> {
    const open: Open = { request, ready: this.#begin(key, request) }
    this.#open.set(key, open)
    clearTimeout(this.#idle)
    await waitFor(open.ready, signal)
  }

  close(key: number): void {
    const open = this.#open.get(key)
    this.#open.delete(key)
    // It was asked before: what follows finds it open, or failed.
    if (open) this.#thread.call('close', key).catch(noteDead)
    this.#checkIdle()
  }

  /** Asks, and asks again when the thread died over it. */
  async call<M extends 'finish' | 'reopen' | 'tee'>(
    key: number,
    method: M,
    argument: OutputCalls[M][0],
    signal: AbortSignal,
  ): Promise<void> {
    for (;;) {
      const open = this.#open.get(key)
      if (!open) throw new CodedError('FailedPrecondition', `${method} output: it is not read any more`)
      const thread = this.#thread
      try {
        return await waitFor(
          open.ready.then(() => thread.call(method, argument)),
          signal,
        )
      } catch (error) {
        if (!thread.dead || this.#isClosed) throw error
        await sleep(AGAIN_MS, signal)
      }
    }
  }

  async bounded<M extends 'reopen' | 'tee'>(
    key: number,
    method: M,
    argument: OutputCalls[M][0],
    signal: AbortSignal,
  ): Promise<void> {
    const { id, log } = this.#open.get(key)?.request ?? { id: '', log: null }
    using limit = deadline(`log ${log?.path ?? ''} of container ${id}`, ANSWER_MS, signal)
    await this.call(key, method, argument, limit.signal)
  }

  async tee(key: number, streams: readonly OutputName[], signal: AbortSignal): Promise<AttachedOutput> {
    const ids = streams.map(() => ++this.#lastTee)
    for (const id of ids) this.#tees.add(id)
    const close = (id: number): void => {
      this.#thread.call('closeTee', id).catch(noteDead)
      this.#tees.delete(id)
      this.#checkIdle()
    }
    try {
      await this.bounded(key, 'tee', { key, ids, streams }, signal)
    } catch (error) {
      for (const id of ids) close(id)
      throw error
    }
    const thread = this.#thread
    const read = (id: number) => (): Promise<Uint8Array | null> => thread.call('readTee', id)
    const outputs = new Map(ids.map((id, index) => [streams[index], new TeeOutput(read(id), () => close(id))]))
    // They end when all that was printed has been read.
    return { stdout: outputs.get('stdout') ?? null, stderr: outputs.get('stderr') ?? null, end: () => undefined }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#idle)
    const closed = Promise.all([...this.#open.keys()].map((key) => this.#thread.call('close', key)))
    using limit = deadline('close logs', CLOSE_MS)
    try {
      await waitFor(closed, limit.signal)
      await this.#thread[Symbol.asyncDispose]()
    } catch {
      // Its disk hangs, or it has died.
      this.#thread.abandon('closed')
    }
  }

  /** Those who were attached may still read when the container has gone. */
  #checkIdle(): void {
    if (this.#open.size > 0 || this.#tees.size > 0 || this.#isClosed) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(this.#onIdle, IDLE_MS)
    this.#idle.unref()
  }

  async #begin(key: number, request: OutputRequest): Promise<void> {
    const { id, fifos, log, isResumed } = request
    using limit = deadline(`open log ${log?.path ?? ''} of container ${id}`, ANSWER_MS)
    await waitFor(this.#thread.call('open', { key, fifos, log, isResumed }), limit.signal)
  }

  /** Tells the log of what goes wrong, until the thread dies; then all that is open is opened again. */
  async #listen(): Promise<void> {
    for (;;) {
      try {
        const { key, message } = await this.#thread.call('trouble', null)
        const id = this.#open.get(key)?.request.id
        this.#logger.warn({ id, error: message }, 'output of a container cannot be written to its log')
      } catch (error) {
        if (this.#isClosed) return
        this.#logger.error({ error: errorMessage(error) }, 'output thread died: starting another')
        await sleep(AGAIN_MS)
        if (this.#isClosed) return
        this.#thread = newThread()
        for (const [key, open] of this.#open) {
          open.ready = this.#begin(key, { ...open.request, isResumed: true })
          // Whoever asks for something is told.
          open.ready.catch((cause: unknown) => {
            const { id } = open.request
            this.#logger.error({ id, error: errorMessage(cause) }, 'output of a container cannot be read')
          })
        }
      }
    }
  }
}

/** One stream of a container's output, for one client. */
class TeeOutput extends Readable {
  readonly #next: () => Promise<Uint8Array | null>
  readonly #onClosed: () => void

  constructor(next: () => Promise<Uint8Array | null>, onClosed: () => void) {
    super()
    this.#next = next
    this.#onClosed = onClosed
  }

  override _read(): void {
    this.#next().then(
      (chunk) => {
        if (!this.destroyed) this.push(chunk && toBuffer(chunk))
      },
      (error: unknown) => this.destroy(error instanceof Error ? error : new CodedError('Internal', String(error))),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#onClosed()
    done(error)
  }
}

function newThread(): Thread<OutputCalls> {
  return new Thread<OutputCalls>('output', new URL('./output-thread.ts', import.meta.url))
}

/** With the thread, all that it had open has gone. */
function noteDead(): void {}
