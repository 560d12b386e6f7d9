import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalJson } from '../../core/canonical-json.ts'
import { errorMessage } from '../../core/errors.ts'
import { makeDirectory } from '../../host/files.ts'
import { isAlive } from '../../host/process.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { ShimRecord, StartedShim } from './types.ts'

/** A start takes place behind the sandbox that took the one before, not beside it. */
const REFILL_MS = 200
/** Without a new sandbox for so long, a kind of shim is not kept ready any more. */
const IDLE_MS = 300_000
const END_MS = 10_000
/** In the working directory: the sandbox that has the shim. */
const TASK_FILE = 'task'
const NAME = /^warm-[0-9a-f]{16}$/

/** Shims that can stand in for one another. */
export type ShimKind = Pick<ShimRecord, 'binary' | 'namespace' | 'ownerAddress' | 'eventsAddress' | 'options'>

export interface WarmShimsOptions {
  /** Where they have their working directories. */
  readonly directory: string
  /** How many of a kind; 0 is none. */
  readonly size: number
  /** See {@link ShimRecord.ownerAddress}. */
  readonly ownerAddress: string
  readonly bootId: string
}

export interface WarmShimsDeps {
  readonly start: (record: ShimRecord, signal: AbortSignal) => Promise<StartedShim>
  /** Ends one that has no tasks, and removes its directory. */
  readonly end: (record: ShimRecord, signal: AbortSignal) => Promise<void>
  readonly logger: Logger
}

interface Warm {
  readonly record: ShimRecord
  readonly shim: StartedShim
}

interface Kind {
  readonly kind: ShimKind
  readonly ready: Warm[]
  starting: number
  idle: NodeJS.Timeout | undefined
}

/**
 * Shims that are started before there is a sandbox for them, of the kinds that were used lately: a sandbox need not wait for
 * its own. Who takes one owns it. Those that nobody took end with the daemon, or when the next one begins.
 */
export class WarmShims implements AsyncDisposable {
  readonly #options: WarmShimsOptions
  readonly #deps: WarmShimsDeps
  readonly #kinds = new Map<string, Kind>()
  readonly #ending = new AbortController()
  readonly #works = new Set<Promise<void>>()

  constructor(options: WarmShimsOptions, deps: WarmShimsDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** Whether a working directory is that of a shim of this name. */
  isOwn(id: string, bundleDir: string): boolean {
    return NAME.test(id) && bundleDir === this.directoryOf(id)
  }

  directoryOf(id: string): string {
    return join(this.#options.directory, id)
  }

  /** Notes that a shim has a sandbox. Before it is told to make anything. */
  async claim({ bundleDir, task }: ShimRecord): Promise<void> {
    await this.#prepare(bundleDir)
    await writeFile(join(bundleDir, TASK_FILE), task.id, { mode: 0o600 })
  }

  /** The sandbox of a shim: its own name unless it was started ahead; null for one that has none. */
  taskOf(id: string): string | null {
    if (!NAME.test(id)) return id
    try {
      return readFileSync(join(this.directoryOf(id), TASK_FILE), 'utf8')
    } catch {
      return null
    }
  }

  /** How many are ready. */
  get size(): number {
    return [...this.#kinds.values()].reduce((sum, { ready }) => sum + ready.length, 0)
  }

  /** One that is ready, or null; another is started later on. */
  take(kind: ShimKind): Warm | null {
    if (this.#options.size === 0 || this.#ending.signal.aborted) return null
    const { bootId } = this.#options
    const found = this.#kindOf(kind)
    setTimeout(() => this.#refill(found), REFILL_MS).unref()
    for (let warm = found.ready.shift(); warm; warm = found.ready.shift()) {
      if (isAlive(warm.shim.process, bootId)) return warm
      this.#run(this.#end(warm.record))
    }
    return null
  }

  /** Begins to end what an earlier daemon has left. Those that have a sandbox are left alone. */
  async endLeft(): Promise<void> {
    const names = await readdir(this.#options.directory).catch(() => [])
    const { ownerAddress } = this.#options
    const kind = { binary: '/', namespace: '', ownerAddress, eventsAddress: '', options: null }
    for (const name of names) {
      if (NAME.test(name) && this.taskOf(name) === null) this.#run(this.#end(this.#record(kind, name)))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort()
    for (const kind of this.#kinds.values()) this.#drop(kind)
    await Promise.all(this.#works)
  }

  #kindOf(kind: ShimKind): Kind {
    const { binary, namespace, ownerAddress, eventsAddress, options } = kind
    const key = canonicalJson([binary, namespace, ownerAddress, eventsAddress, options])
    const found: Kind = this.#kinds.get(key) ?? { kind, ready: [], starting: 0, idle: undefined }
    this.#kinds.set(key, found)
    clearTimeout(found.idle)
    found.idle = setTimeout(() => {
      this.#kinds.delete(key)
      this.#drop(found)
    }, IDLE_MS).unref()
    return found
  }

  #drop(kind: Kind): void {
    clearTimeout(kind.idle)
    for (const { record } of kind.ready.splice(0)) this.#run(this.#end(record))
  }

  #refill(kind: Kind): void {
    const missing = this.#options.size - kind.ready.length - kind.starting
    if (this.#ending.signal.aborted || missing <= 0) return
    kind.starting++
    this.#run(this.#start(kind).finally(() => kind.starting--))
  }

  /** Never rejects. */
  async #start(kind: Kind): Promise<void> {
    const record = this.#record(kind.kind, `warm-${randomBytes(8).toString('hex')}`)
    try {
      await this.#prepare(record.bundleDir)
      const shim = await this.#deps.start(record, this.#ending.signal)
      kind.ready.push({ record, shim })
      if (this.#ending.signal.aborted) this.#drop(kind)
    } catch (error) {
      this.#deps.logger.warn({ error: errorMessage(error) }, 'a shim could not be started ahead')
      await this.#end(record)
    }
  }

  async #prepare(directory: string): Promise<void> {
    await makeDirectory(directory)
    // Shims read the annotations of what they are started for; without any, one is in a group of its own.
    await writeFile(join(directory, 'config.json'), '{}', { mode: 0o600 })
  }

  /** Never rejects: what is left is found by the next daemon. */
  async #end(record: ShimRecord): Promise<void> {
    try {
      await this.#deps.end(record, AbortSignal.timeout(END_MS))
    } catch (error) {
      this.#deps.logger.warn({ shim: record.id, error: errorMessage(error) }, 'a shim that nobody needs did not end')
    }
  }

  #run(work: Promise<void>): void {
    this.#works.add(work)
    void work.finally(() => this.#works.delete(work))
  }

  #record(kind: ShimKind, id: string): ShimRecord {
    const bundleDir = this.directoryOf(id)
    return { ...kind, id, bundleDir, task: { id, bundleDir }, netnsPath: '' }
  }
}
