import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { Daemon } from './process.ts'

const START_MS = 10_000

interface Answer {
  readonly id?: number
  readonly error?: { readonly message: string }
  readonly result?: { readonly result?: { readonly value?: unknown }; readonly exceptionDetails?: unknown }
}

/** The inspector of a daemon that was started with `--inspect`. */
export class Inspector implements Disposable {
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #last = 0

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data: Buffer) => {
      const answer = JSON.parse(data.toString()) as Answer
      this.#waiting.get(answer.id ?? 0)?.(answer)
      this.#waiting.delete(answer.id ?? 0)
    })
  }

  static async of(daemon: Daemon): Promise<Inspector> {
    const end = performance.now() + START_MS
    for (;;) {
      const url = /ws:\/\/\S+/.exec(daemon.logTail(Number.POSITIVE_INFINITY))?.[0]
      if (url !== undefined) {
        const socket = new WebSocket(url)
        await once(socket, 'open')
        return new Inspector(socket)
      }
      if (performance.now() > end) throw new Error('the daemon has no inspector')
      await sleep(50)
    }
  }

  async collectGarbage(): Promise<void> {
    // What the first round finalizes is only garbage in the second one.
    for (let round = 0; round < 2; round++) await this.#call('HeapProfiler.collectGarbage', {})
  }

  /** The value of an expression in the daemon, as JSON has it. */
  async evaluate(expression: string): Promise<unknown> {
    const { result } = await this.#call('Runtime.evaluate', { expression, returnByValue: true })
    if (result?.exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(result.exceptionDetails)}`)
    return result?.result?.value
  }

  [Symbol.dispose](): void {
    this.#socket.terminate()
  }

  async #call(method: string, params: object): Promise<Answer> {
    const id = ++this.#last
    const answer = new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve)
    })
    this.#socket.send(JSON.stringify({ id, method, params }))
    const got = await answer
    if (got.error) throw new Error(`${method}: ${got.error.message}`)
    return got
  }
}
