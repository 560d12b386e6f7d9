import type { Logger } from 'pino'
import { sleep } from '../core/deadline.ts'
import { errorCode, errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { RunProgram } from '../host/programs/outcome.ts'

const DU = '/usr/bin/du'
/** So many directories in one run: a start costs more than a small directory. */
const BATCH = 32
/** For one run. A layer of a million files takes some seconds. */
const TIMEOUT_MS = 60_000
/** A layer that takes long is measured less often: this times as long passes until the next time. */
const PAUSE_FACTOR = 20
/** How long an answer waits for layers that were never measured, so that new containers are complete as a rule … */
const FIRST_WAIT_MS = 250
/** … unless more than this many are to be measured. */
const FIRST_WAIT_LAYERS = 8

/** What a writable layer takes. */
export interface LayerUsage {
  /** When it was measured: nanoseconds since the epoch. */
  readonly atNs: bigint
  readonly usedBytes: number
  readonly inodesUsed: number
}

/** A container with a writable layer. */
export interface LayerTarget {
  readonly id: string
  /** `''` when it has none. */
  readonly upperDir: string
}

export interface WritableLayersDeps {
  readonly run: RunProgram
  readonly logger: Logger
}

interface Measured {
  /** Null when it could not be measured. */
  readonly usage: LayerUsage | null
  readonly nextAtMs: number
}

/**
 * Measures writable layers behind the back of those who ask: one program at a time, each layer at most once in an
 * interval, and only while somebody asks.
 */
export class WritableLayers implements AsyncDisposable {
  readonly #intervalMs: number
  readonly #deps: WritableLayersDeps
  readonly #measured = new Map<string, Measured>()
  readonly #queue = new Map<string, LayerTarget>()
  readonly #closed = new AbortController()
  #work: Promise<void> | undefined

  constructor(options: { readonly intervalMs: number }, deps: WritableLayersDeps) {
    this.#intervalMs = options.intervalMs
    this.#deps = deps
  }

  /** The last measurement, or null when there is none. */
  usage(id: string): LayerUsage | null {
    return this.#measured.get(id)?.usage ?? null
  }

  get size(): number {
    return this.#measured.size
  }

  /** Forgets all but these. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#measured.keys()) if (!ids.has(id)) this.#measured.delete(id)
  }

  /** Has those measured whose time has come. Returns soon, whether that is done or not. */
  async refresh(targets: readonly LayerTarget[], signal: AbortSignal): Promise<void> {
    if (this.#closed.signal.aborted) return
    const now = performance.now()
    let areNew = false
    for (const target of targets) {
      const measured = this.#measured.get(target.id)
      if (target.upperDir === '' || (measured && measured.nextAtMs > now)) continue
      this.#queue.set(target.id, target)
      areNew ||= measured === undefined
    }
    if (this.#queue.size > 0) this.#work ??= this.#measureAll().finally(() => (this.#work = undefined))
    if (!areNew || !this.#work || this.#queue.size > FIRST_WAIT_LAYERS) return
    await Promise.race([this.#work, sleep(FIRST_WAIT_MS, signal)])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort()
    await this.#work
  }

  async #measureAll(): Promise<void> {
    while (this.#queue.size > 0 && !this.#closed.signal.aborted) {
      const batch = [...this.#queue.values()].slice(0, BATCH)
      try {
        await this.#measure(batch)
      } catch (error) {
        if (this.#closed.signal.aborted) return
        // One that takes too long shall not keep the others from being measured.
        if (errorCode(error) === 'DeadlineExceeded' && batch.length > 1) await this.#measureEach(batch)
        else this.#giveUp(batch, error)
      }
      for (const { id } of batch) this.#queue.delete(id)
    }
  }

  async #measureEach(batch: readonly LayerTarget[]): Promise<void> {
    for (const target of batch) {
      if (this.#closed.signal.aborted) return
      await this.#measure([target]).catch((error: unknown) => this.#giveUp([target], error))
    }
  }

  async #measure(batch: readonly LayerTarget[]): Promise<void> {
    const startMs = performance.now()
    const usedBytes = await this.#du('--block-size=1', batch)
    const inodesUsed = await this.#du('--inodes', batch)
    const now = performance.now()
    const nextAtMs = now + Math.max(this.#intervalMs, ((now - startMs) / batch.length) * PAUSE_FACTOR)
    const atNs = nowNs()
    for (const { id, upperDir } of batch) {
      const [bytes, inodes] = [usedBytes.get(upperDir), inodesUsed.get(upperDir)]
      // Removed meanwhile, if it is missing.
      const usage = bytes === undefined || inodes === undefined ? null : { atNs, usedBytes: bytes, inodesUsed: inodes }
      this.#measured.set(id, { usage, nextAtMs })
    }
  }

  /** By directory. What vanishes while it is counted is no failure. */
  async #du(what: string, batch: readonly LayerTarget[]): Promise<Map<string, number>> {
    const directories = batch.map(({ upperDir }) => upperDir)
    const { stdout } = await this.#deps.run(DU, ['-s', '-x', '-0', what, '--', ...directories], {
      timeoutMs: TIMEOUT_MS,
      signal: this.#closed.signal,
    })
    const lines = stdout.split('\0').map((line) => line.split('\t'))
    return new Map(lines.map(([number, ...path]) => [path.join('\t'), Number(number)]))
  }

  #giveUp(batch: readonly LayerTarget[], error: unknown): void {
    const nextAtMs = performance.now() + Math.max(this.#intervalMs, TIMEOUT_MS * PAUSE_FACTOR)
    for (const { id } of batch) this.#measured.set(id, { usage: this.usage(id), nextAtMs })
    const containers = batch.map(({ id }) => id)
    this.#deps.logger.warn({ containers, error: errorMessage(error) }, 'writable layers could not be measured')
  }
}
