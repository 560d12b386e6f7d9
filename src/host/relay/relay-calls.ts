import { closeSync, writeSync } from 'node:fs'
import { Thread } from '../../core/thread.ts'
import type { Descriptors } from '../descriptors.ts'

/** One, as an eventfd counts. */
const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])

/**
 * What is received as packets: dropped, or each given as its first byte, the length of the rest (32 bits, big-endian), and
 * the rest.
 */
export type PacketOutput = 'dropped' | 'framed'

/** Two descriptors between which the thread copies; it answers when it has done with them. The caller closes them. */
interface Copied {
  readonly key: number
  readonly fd: number
  readonly peer: number
}

export interface RelayCalls {
  terminal: readonly [Copied, null]
  packets: readonly [Copied & { readonly output: PacketOutput }, null]
  /** Answered with the descriptor that the first who connects has sent; null when that was none, or at `finish`. */
  receive: readonly [Omit<Copied, 'peer'>, number | null]
  /** The output of a terminal ends after what there is of it; nobody waits for a descriptor any longer. */
  finish: readonly [Pick<Copied, 'key'>, null]
  /** The thread goes back to its event loop, where it can be ended. */
  close: readonly [null, null]
}

/** What the thread finds in its `workerData`. */
export interface RelayThreadData {
  readonly epollFd: number
  readonly wakeFd: number
}

/** One thing that the thread does until it is over. */
export interface RelayEntry<T> {
  /** Rejected with `Unavailable` when the thread has died. */
  readonly over: Promise<T>
  readonly isOver: boolean
  finish(): void
}

/** The thread, which waits in the kernel and not in its event loop, so that it has to be woken for each call. */
export class RelayThread implements AsyncDisposable {
  readonly #data: RelayThreadData
  readonly #thread: Thread<RelayCalls>
  #lastKey = 0
  #isClosed = false

  constructor(descriptors: Descriptors) {
    this.#data = { epollFd: descriptors.epollCreate(), wakeFd: descriptors.eventFd() }
    this.#thread = new Thread<RelayCalls>('relay', new URL('./relay-thread.ts', import.meta.url), this.#data)
    process.once('exit', this.#leave)
  }

  get isDead(): boolean {
    return this.#isClosed || this.#thread.dead
  }

  entry<M extends 'terminal' | 'packets' | 'receive'>(
    method: M,
    argument: Omit<RelayCalls[M][0], 'key'>,
  ): RelayEntry<RelayCalls[M][1]> {
    const key = ++this.#lastKey
    let isOver = false
    const over = this.#call(method, { key, ...argument }).finally(() => {
      isOver = true
    })
    return {
      over,
      get isOver() {
        return isOver
      },
      finish: () => {
        if (!isOver) this.#post('finish', { key })
      },
    }
  }

  /** All that is not over is rejected. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    process.off('exit', this.#leave)
    this.#leave()
    await this.#thread[Symbol.asyncDispose]()
    closeSync(this.#data.epollFd)
    closeSync(this.#data.wakeFd)
  }

  /** A thread that waits in the kernel would hold up the end of the process. */
  readonly #leave = (): void => this.#post('close', null)

  async #call<M extends keyof RelayCalls>(method: M, argument: RelayCalls[M][0]): Promise<RelayCalls[M][1]> {
    const answer = this.#thread.call(method, argument)
    // With the thread the descriptor is closed, and may be somebody else's by now.
    if (!this.#thread.dead) writeSync(this.#data.wakeFd, ONE)
    return answer
  }

  #post(method: 'finish' | 'close', argument: RelayCalls['finish' | 'close'][0]): void {
    // It is for nothing when the thread has died: then all is over.
    if (!this.#thread.dead) this.#call(method, argument as never).catch(() => undefined)
  }
}
