import { type FSWatcher, statSync, watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { abortReason } from '../core/deadline.ts'
import { errnoOf, errorMessage } from '../core/errors.ts'
import { isAlive, type ProcessIdentity } from '../host/process.ts'
import type { ExitStatus } from './types.ts'

const SWEEP_MS = 1000
/**
 * How long after the end of a process its monitor, of which we do not know whether it runs, may take to write down the
 * exit status. One that runs reads the last output first, and other processes of the container may still write some.
 */
const MONITOR_GRACE_MS = 1000
/** After this, one that runs is given up: its log may lie on a disk that hangs. */
const MONITOR_STUCK_MS = 15_000

/** A process to be watched. */
export interface Watch {
  /** Under which its monitor writes down the exit status. */
  readonly id: string
  readonly process: ProcessIdentity
  /** Null when it is not known, or was killed. */
  readonly monitor: ProcessIdentity | null
  /** Called once when the process has ended, its monitor runs, and there is no exit status after a second. */
  readonly onLinger: () => Promise<void>
}

interface Watched {
  readonly watch: Watch
  readonly done: (exit: ExitStatus) => void
  goneSince: number | undefined
  lingers: boolean
}

/**
 * Sees processes end. The monitor of each writes its exit status to a file, which inotify shows at once; a sweep over
 * `/proc` once a second is the truth behind it, for when inotify is not to be had, or the monitor was killed.
 */
export class ExitWatch implements Disposable {
  readonly #directory: string
  readonly #bootId: string
  readonly #logger: Logger
  readonly #watched = new Map<string, Set<Watched>>()
  readonly #sweep: NodeJS.Timeout
  #watcher: FSWatcher | undefined

  /** @param options.directory where the monitors write; it exists. */
  constructor(options: { directory: string; bootId: string }, deps: { logger: Logger }) {
    this.#directory = options.directory
    this.#bootId = options.bootId
    this.#logger = deps.logger
    try {
      this.#watcher = watch(options.directory, { persistent: false }, (_event, id) => {
        if (id !== null && this.#watched.has(id)) void this.#checkFile(id)
      })
      this.#watcher.on('error', (error) => this.#stopWatching(error))
    } catch (error) {
      this.#stopWatching(error)
    }
    this.#sweep = setInterval(() => this.#sweepOnce(), SWEEP_MS)
    this.#sweep.unref()
  }

  /** Resolves when the process has ended; rejects with the signal's reason. Any number may wait for the same. */
  async wait(watch: Watch, signal: AbortSignal): Promise<ExitStatus> {
    signal.throwIfAborted()
    const { id } = watch
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#forget(watched)
        reject(abortReason(signal))
      }
      const watched: Watched = {
        watch,
        done: (exit) => {
          signal.removeEventListener('abort', onAbort)
          resolve(exit)
        },
        goneSince: undefined,
        lingers: false,
      }
      signal.addEventListener('abort', onAbort, { once: true })
      const others = this.#watched.get(id) ?? new Set()
      this.#watched.set(id, others.add(watched))
      // It may have ended before it was watched.
      void this.#checkFile(id)
    })
  }

  /** The recorded exit status, or null when there is none (yet). */
  async read(id: string): Promise<ExitStatus | null> {
    return readExit(this.#directory, id)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweep)
    this.#watcher?.close()
  }

  async #checkFile(id: string): Promise<void> {
    try {
      const exit = await this.read(id)
      if (!exit) return
      for (const watched of this.#watched.get(id) ?? []) this.#finish(watched, exit)
    } catch (error) {
      // The sweep comes by again.
      this.#logger.warn({ id, error: errorMessage(error) }, 'exit status cannot be read')
    }
  }

  #sweepOnce(): void {
    const now = performance.now()
    for (const watched of [...this.#watched.values()].flatMap((all) => [...all])) {
      const { id, process } = watched.watch
      if (isAlive(process, this.#bootId)) continue
      watched.goneSince ??= now
      // Asked before the file is looked for: it may write that and end in between.
      const isGivenUp = this.#isGivenUp(watched, now - watched.goneSince)
      if (isGivenUp && !this.#hasFile(id)) {
        this.#finish(watched, { code: 255, atNs: toNs(Date.now()), reason: 'Unknown' })
      } else {
        void this.#checkFile(id)
      }
    }
  }

  #isGivenUp(watched: Watched, goneMs: number): boolean {
    const { id, monitor, onLinger } = watched.watch
    if (!monitor) return goneMs > MONITOR_GRACE_MS
    if (!isAlive(monitor, this.#bootId)) return true
    if (goneMs > MONITOR_GRACE_MS && !watched.lingers) {
      watched.lingers = true
      onLinger().catch((error: unknown) => {
        this.#logger.warn({ id, error: errorMessage(error) }, 'the rest of a container cannot be ended')
      })
    }
    return goneMs > MONITOR_STUCK_MS
  }

  #hasFile(id: string): boolean {
    return statSync(join(this.#directory, id), { throwIfNoEntry: false }) !== undefined
  }

  #finish(watched: Watched, exit: ExitStatus): void {
    this.#forget(watched)
    watched.done(exit)
  }

  #forget(watched: Watched): void {
    const { id } = watched.watch
    const others = this.#watched.get(id)
    others?.delete(watched)
    if (others?.size === 0) this.#watched.delete(id)
  }

  #stopWatching(error: unknown): void {
    this.#logger.warn({ error: errorMessage(error), sweepMs: SWEEP_MS }, 'exits cannot be watched: sweeping only')
    this.#watcher?.close()
    this.#watcher = undefined
  }
}

/** The exit status that a monitor has written into a directory, or null when there is none (yet). */
export async function readExit(directory: string, id: string): Promise<ExitStatus | null> {
  const path = join(directory, id)
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    const code = Number.parseInt(text, 10)
    // A full file system can leave an empty file: the end was seen, its code was not.
    if (Number.isNaN(code)) return { code: 255, atNs: toNs(mtimeMs), reason: 'Unknown' }
    return { code, atNs: toNs(mtimeMs), reason: 'Exited' }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

function toNs(ms: number): bigint {
  return BigInt(Math.round(ms * 1000)) * 1000n
}
