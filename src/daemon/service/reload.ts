import type { Reload } from '../../admin/api.ts'
import { changedKeys, isReloaded, type KeyValues, keyValues } from '../../config/changed-keys.ts'
import type { Config } from '../../config/config.ts'
import type { LoadedConfig } from '../../config/load.ts'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { ServiceState } from './service-state.ts'

export interface ReloaderDeps {
  /** Reads and checks the configuration, from where it was read first. @throws CodedError that names what is wrong. */
  readonly load: () => Promise<LoadedConfig>
  /**
   * Takes over the keys of a configuration that can be. Also where none has changed, reads again the files that the
   * configuration names.
   */
  readonly apply: (config: Config, keys: readonly string[]) => Promise<void>
  readonly service: Pick<ServiceState, 'reloading' | 'note'>
  readonly logger: Logger
}

/** Reads the configuration again while we run (SIGHUP, `sandboxerctl reload`). */
export class Reloader {
  readonly #deps: ReloaderDeps
  /** What runs. */
  #values: KeyValues
  /** Where that is from; undefined for the embedded defaults. */
  #file: string | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(running: Pick<LoadedConfig, 'settings' | 'file'>, deps: ReloaderDeps) {
    this.#deps = deps
    this.#file = running.file
    this.#values = keyValues(running.settings)
  }

  /**
   * Applies what has changed and can be applied, and tells what needs a restart. One at a time.
   * @throws CodedError for a configuration that cannot be used: it changes nothing.
   */
  async reload(): Promise<Reload> {
    const reload = this.#last.then(() => this.#deps.service.reloading(() => this.#reload()))
    this.#last = reload.catch(() => undefined)
    return reload
  }

  async #reload(): Promise<Reload> {
    const { load, apply, service, logger } = this.#deps
    try {
      const { config, settings, file } = await load()
      // Somebody is about to write it anew, or has made a mistake: no reason to fall back to the defaults.
      if (file === undefined && this.#file !== undefined) {
        throw new CodedError('FailedPrecondition', `read the configuration ${this.#file}: it is not there any more`)
      }
      const after = keyValues(settings)
      const { changed, needRestart } = this.#sort(changedKeys(this.#values, after))
      await apply(config, changed)
      this.#takeOver(after, changed)
      this.#file = file
      logger.info({ changed, needRestart }, 'configuration reloaded')
      service.note(needRestart.length === 0 ? '' : `a restart is needed for ${needRestart.join(', ')}`)
      return { changed, needRestart }
    } catch (error) {
      logger.error({ error: errorMessage(error) }, 'configuration not reloaded')
      service.note(`the configuration was not reloaded: ${errorMessage(error)}`)
      throw error
    }
  }

  #sort(keys: readonly string[]): { changed: string[]; needRestart: string[] } {
    // The handler of pods that name none must be among those that there are.
    const keepsRuntimes = keys.includes('default_runtime_handler')
    const canReload = (key: string): boolean =>
      isReloaded(key, this.#values) && !(keepsRuntimes && key.startsWith('runtimes.'))
    return { changed: keys.filter((key) => canReload(key)), needRestart: keys.filter((key) => !canReload(key)) }
  }

  #takeOver(after: KeyValues, keys: readonly string[]): void {
    const values = new Map(this.#values)
    for (const key of keys) {
      const value = after.get(key)
      if (value === undefined) values.delete(key)
      else values.set(key, value)
    }
    this.#values = values
  }
}
