import { abortReason } from '../../core/deadline.ts'

/** For the commands in containers: each start costs some milliseconds of a processor and some megabytes. */
export const COMMAND_STARTS = { count: 16, holdMs: 1000 } as const

/**
 * Bounds how many programs are being started at the same time. A slot is free again when the program has ended, or has
 * run for a while: those that run long do not keep others from starting.
 */
export class StartSlots {
  readonly #holdMs: number
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(options: { readonly count: number; readonly holdMs: number }) {
    this.#free = options.count
    this.#holdMs = options.holdMs
  }

  /** In the order of the calls. Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted()
    if (this.#free > 0) this.#free--
    else await this.#turn(signal)
    let isHeld = true
    const release = (): void => {
      if (!isHeld) return
      isHeld = false
      clearTimeout(timer)
      this.#passOn()
    }
    const timer = setTimeout(release, this.#holdMs)
    return { [Symbol.dispose]: release }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const onTurn = (): void => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = (): void => {
        this.#waiting.delete(onTurn)
        reject(abortReason(signal))
      }
      this.#waiting.add(onTurn)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  #passOn(): void {
    const [next] = this.#waiting
    if (!next) {
      this.#free++
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
