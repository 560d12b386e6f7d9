import { watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Logger } from 'pino'
import { errorMessage } from '../core/errors.ts'

/** `fs.watch`, or what a test puts in its place. */
export type WatchDirectory = (dir: string, onEvent: () => void) => Pick<FSWatcher, 'close' | 'on'>

export interface DirectoryWatcherOptions {
  readonly dir: string
  readonly debounceMs: number
}

/** Uses one inotify instance; it neither keeps the process alive nor has to be waited for. */
export const watchWithInotify: WatchDirectory = (dir, onEvent) => watch(dir, { persistent: false }, () => onEvent())

/**
 * Says, a moment after the last of several events, that a directory has changed. It can fail at any time (no inotify
 * instances left, no such directory, directory replaced), so it is only what makes a poll faster: the owner calls
 * {@link rearm} with each poll.
 */
export class DirectoryWatcher implements Disposable {
  readonly #options: DirectoryWatcherOptions
  readonly #deps: { watch: WatchDirectory; onChange: () => void; logger: Pick<Logger, 'info'> }
  #watched: { readonly identity: string; readonly watcher: Pick<FSWatcher, 'close'> } | undefined
  #debounce: NodeJS.Timeout | undefined
  #isFailureLogged = false
  #isDisposed = false

  constructor(
    options: DirectoryWatcherOptions,
    deps: { watch: WatchDirectory; onChange: () => void; logger: Pick<Logger, 'info'> },
  ) {
    this.#options = options
    this.#deps = deps
  }

  get isWatching(): boolean {
    return this.#watched !== undefined
  }

  /** Watches the directory that is there now. A failure is logged once, not with each try. */
  async rearm(): Promise<void> {
    try {
      const { dev, ino } = await stat(this.#options.dir)
      const identity = `${dev} ${ino}`
      if (this.#isDisposed || this.#watched?.identity === identity) return
      this.#close()
      const watcher = this.#deps.watch(this.#options.dir, () => this.#onEvent())
      this.#watched = { identity, watcher }
      watcher.on('error', (error) => this.#onFailure(error))
      this.#isFailureLogged = false
    } catch (error) {
      this.#onFailure(error)
    }
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    this.#close()
    clearTimeout(this.#debounce)
  }

  #onEvent(): void {
    if (this.#isDisposed) return
    clearTimeout(this.#debounce)
    this.#debounce = setTimeout(this.#deps.onChange, this.#options.debounceMs)
  }

  #onFailure(error: unknown): void {
    this.#close()
    if (this.#isFailureLogged || this.#isDisposed) return
    this.#isFailureLogged = true
    this.#deps.logger.info(
      { dir: this.#options.dir, error: errorMessage(error) },
      'directory cannot be watched, only polled',
    )
  }

  #close(): void {
    this.#watched?.watcher.close()
    this.#watched = undefined
  }
}
