import { Readable } from 'node:stream'
import { waitFor } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import { Thread, toBuffer } from '../../core/thread.ts'
import type { OutputName } from './records.ts'

export interface LogRequest {
  readonly path: string
  /** Null when it is not known: it then writes to the file at the path. */
  readonly monitorPid: number | null
  readonly streams: readonly OutputName[]
}

export interface LogCalls {
  follow: readonly [LogRequest & { readonly ids: readonly number[] }, void]
  /** What comes next, as soon as there is something; null after the last. */
  read: readonly [number, Uint8Array | null]
  end: readonly [number, void]
  close: readonly [number, void]
}

/** What a container prints. */
export interface FollowedOutput {
  /** In the order of the streams that were asked for. Each is read as slowly as its reader wants, and destroyed by them. */
  readonly streams: readonly Readable[]
  /** The monitor writes no more: the streams end after what is in the log. */
  end(): void
}

/**
 * Follows the logs of containers, on a thread of its own: of what a caller chose as the place of a log nobody knows whether
 * it hangs. The thread is started when it is first needed. A silent log costs nothing but a look once a second.
 */
export class ContainerLogs implements AsyncDisposable {
  readonly #timeoutMs: number
  #thread: Thread<LogCalls> | undefined
  #lastId = 0

  constructor(options: { readonly timeoutMs: number }) {
    this.#timeoutMs = options.timeoutMs
  }

  /**
   * What is written to a log from now on, across its rotations.
   * @throws CodedError `FailedPrecondition` when there is no log, `Unavailable` when its directory hangs: all who follow a
   * log are given up then, as when one hangs that has come to its end.
   */
  async follow(request: LogRequest, signal: AbortSignal): Promise<FollowedOutput> {
    signal.throwIfAborted()
    if (!this.#thread || this.#thread.dead) {
      this.#thread = new Thread<LogCalls>('log', new URL('./log-thread.ts', import.meta.url))
    }
    const thread = this.#thread
    const ids = request.streams.map(() => ++this.#lastId)
    const answer = (call: Promise<void>): Promise<void> => this.#answer(thread, request.path, call)
    try {
      await waitFor(answer(thread.call('follow', { ...request, ids })), signal)
    } catch (error) {
      for (const id of ids) close(thread, id)
      throw error
    }
    return {
      streams: ids.map((id) => new LogOutput(thread, id)),
      end: () => {
        for (const id of ids) answer(thread.call('end', id)).catch(noteDead)
      },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }

  /** A thread that does not answer hangs. */
  async #answer(thread: Thread<LogCalls>, path: string, call: Promise<void>): Promise<void> {
    const timer = setTimeout(
      () => thread.abandon(`log ${path}: no answer after ${this.#timeoutMs} ms`),
      this.#timeoutMs,
    )
    try {
      await call
    } finally {
      clearTimeout(timer)
    }
  }
}

/** One stream of a container's output. */
class LogOutput extends Readable {
  readonly #thread: Thread<LogCalls>
  readonly #id: number

  constructor(thread: Thread<LogCalls>, id: number) {
    super()
    this.#thread = thread
    this.#id = id
  }

  override _read(): void {
    this.#thread.call('read', this.#id).then(
      (chunk) => {
        if (!this.destroyed) this.push(chunk && toBuffer(chunk))
      },
      (error: unknown) => this.destroy(error instanceof Error ? error : new CodedError('Internal', String(error))),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    close(this.#thread, this.#id)
    done(error)
  }
}

function close(thread: Thread<LogCalls>, id: number): void {
  thread.call('close', id).catch(noteDead)
}

/** With the thread, all that it had open has gone. */
function noteDead(): void {}
