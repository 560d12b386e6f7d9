import { fileURLToPath } from 'node:url'
import { type MessagePort, Worker } from 'node:worker_threads'
import { CodedError, type ErrorCode, errorCode, errorMessage } from './errors.ts'

interface Call {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

/** What a {@link Thread} sends for a call. */
export interface CallMessage {
  readonly id: number
  readonly method: string
  readonly argument: unknown
}

/** Calls are counted from 1. */
const NO_CALL = 0

/** What it gets back. */
export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: { readonly code: ErrorCode; readonly message: string }
}

/** A result of which the memory moves to the caller's thread, in place of being copied. */
export class Moved<T> {
  readonly value: T
  readonly memory: readonly ArrayBuffer[]

  constructor(value: T, memory: readonly ArrayBuffer[]) {
    this.value = value
    this.memory = memory
  }
}

/**
 * A worker thread that answers calls. `C` maps each method to its `[argument, result]`.
 * When the thread dies, every call under way is rejected with `Unavailable`.
 */
export class Thread<C extends Record<keyof C, readonly [argument: unknown, result: unknown]>>
  implements AsyncDisposable
{
  readonly #worker: Worker
  readonly #calls = new Map<number, Call>()
  readonly #name: string
  readonly #loaded: Promise<unknown>
  #lastId = 0
  #dead: CodedError | undefined

  /** @param entry the module the thread runs, which must call {@link answerCalls}, or {@link sayLoaded} and answer itself. */
  constructor(name: string, entry: URL, workerData?: unknown) {
    this.#name = name
    // Descriptors come from C functions, too: whoever opens one here closes it.
    this.#worker = new Worker(compiled(entry), { name, workerData, trackUnmanagedFds: false })
    this.#worker.unref()
    this.#loaded = new Promise((resolve) => {
      this.#worker.once('message', resolve).once('exit', resolve)
    })
    this.#worker.on('message', (answer: Answer) => this.#settle(answer))
    this.#worker.on('error', (error) => this.#die(errorMessage(error)))
    this.#worker.on('exit', (code) => this.#die(`exit code ${code}`))
  }

  /** True once the thread has ended: it answers no more calls. */
  get dead(): boolean {
    return this.#dead !== undefined
  }

  /** How many calls wait for an answer. */
  get pending(): number {
    return this.#calls.size
  }

  async call<M extends keyof C & string>(method: M, argument: C[M][0]): Promise<C[M][1]> {
    if (this.#dead) throw this.#dead
    const id = ++this.#lastId
    // The thread keeps the process alive only while somebody waits for it.
    if (this.#calls.size === 0) this.#worker.ref()
    return new Promise<C[M][1]>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#worker.postMessage({ id, method, argument } satisfies CallMessage)
    })
  }

  /** Ends the thread without waiting for what it is doing. */
  abandon(why: string): void {
    this.#die(why)
    void this.#terminate()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#die('closed')
    await this.#terminate()
  }

  /** Not before it has loaded its module: C++ code that is interrupted in that ends the whole process. */
  async #terminate(): Promise<void> {
    this.#worker.ref()
    await this.#loaded
    await this.#worker.terminate()
  }

  #settle(answer: Answer): void {
    const call = this.#calls.get(answer.id)
    if (!call) return
    this.#calls.delete(answer.id)
    if (this.#calls.size === 0) this.#worker.unref()
    if (answer.error) call.reject(new CodedError(answer.error.code, answer.error.message))
    else call.resolve(answer.value)
  }

  #die(why: string): void {
    if (this.#dead) return
    this.#dead = new CodedError('Unavailable', `${this.#name} thread: ${why}`)
    for (const call of this.#calls.values()) call.reject(this.#dead)
    this.#calls.clear()
    this.#worker.unref()
  }
}

/** What a thread's module calls: every message becomes a call of `handle`, and what that returns or throws goes back. */
export function answerCalls(port: MessagePort, handle: (method: string, argument: unknown) => unknown): void {
  port.on('message', ({ id, method, argument }: CallMessage) => {
    const answer = (value: unknown): void => {
      if (value instanceof Moved) port.postMessage({ id, value: value.value } satisfies Answer, [...value.memory])
      else port.postMessage({ id, value } satisfies Answer)
    }
    const fail = (error: unknown): void => {
      port.postMessage({ id, error: { code: errorCode(error), message: errorMessage(error) } } satisfies Answer)
    }
    try {
      const value = handle(method, argument)
      if (value instanceof Promise) {
        value.then(answer, fail)
      } else {
        answer(value)
      }
    } catch (error) {
      fail(error)
    }
  })
  sayLoaded(port)
}

/** What a thread's module calls when it is ready for calls: before that the thread is not ended. */
export function sayLoaded(port: MessagePort): void {
  port.postMessage({ id: NO_CALL } satisfies Answer)
}

/** The same memory: what came from another thread is no Buffer any more. */
export function toBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** Threads run compiled code, also when their parent is run from source by the test runner. */
function compiled(entry: URL): string {
  return fileURLToPath(entry).replace(/\/(?:src|dist)\/((?:[^/]+\/)+[^/]+)\.ts$/, '/dist/$1.js')
}
