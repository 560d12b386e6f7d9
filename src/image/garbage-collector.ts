import { deadline } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { Logger } from '../telemetry/logger.ts'
import { collectGarbage } from './garbage.ts'
import type { ImageTools } from './image-tools.ts'
import type { Gate, Queue } from './turns.ts'

/** So long a repeated pull finds the layers that an interrupted one has finished. */
const RESUME_MS = 3600_000
const TIMEOUT_MS = 600_000

/**
 * Collects the store's garbage when nobody pulls. At start, and when the disk is full, all of it; after a pull that failed
 * the layers that it has finished are kept for an hour, for the next try.
 */
export class GarbageCollector implements AsyncDisposable {
  readonly #graph: string
  readonly #tools: ImageTools
  readonly #gate: Gate
  readonly #changes: Queue
  readonly #logger: Logger
  readonly #closing = new AbortController()
  /** The age that layers must have to go; undefined when nothing is to be collected. */
  #wantedAgeMs: number | undefined
  #running: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined

  constructor(
    options: { readonly graph: string },
    deps: { readonly tools: ImageTools; readonly gate: Gate; readonly changes: Queue; readonly logger: Logger },
  ) {
    this.#graph = options.graph
    this.#tools = deps.tools
    this.#gate = deps.gate
    this.#changes = deps.changes
    this.#logger = deps.logger
  }

  /** There is something to collect: `0` all of it, `'later'` all but what a pull can still use. */
  want(age: 0 | 'later'): void {
    this.#wantedAgeMs = Math.min(this.#wantedAgeMs ?? RESUME_MS, age === 0 ? 0 : RESUME_MS)
    this.startIfIdle()
  }

  /** To be called when somebody has left the gate. */
  startIfIdle(): void {
    if (this.#wantedAgeMs === undefined || !this.#gate.isIdle || this.#closing.signal.aborted) return
    const ageMs = this.#wantedAgeMs
    this.#wantedAgeMs = undefined
    this.#running = this.#gate
      .alone(async () => await this.#changes.run(async () => await this.#collect(ageMs)))
      .finally(() => this.startIfIdle())
  }

  async settled(): Promise<void> {
    for (let seen: Promise<void> | undefined; seen !== this.#running; ) {
      seen = this.#running
      await seen
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    clearTimeout(this.#timer)
    await this.#running
  }

  async #collect(ageMs: number): Promise<void> {
    try {
      using limit = deadline('collect the garbage of the image store', TIMEOUT_MS, this.#closing.signal)
      const collected = await collectGarbage(this.#graph, this.#tools, Date.now() - ageMs, limit.signal)
      const { images, layers, files, kept } = collected
      if (images + layers + files > 0) this.#logger.info(collected, 'image store: garbage collected')
      if (kept > 0) this.#again()
    } catch (error) {
      if (this.#closing.signal.aborted) return
      this.#logger.warn({ error: errorMessage(error) }, 'image store: garbage cannot be collected')
      this.#again()
    }
  }

  #again(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.want('later'), RESUME_MS)
    this.#timer.unref()
  }
}
