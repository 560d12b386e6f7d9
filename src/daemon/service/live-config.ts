import type { Config, RuntimeHandlerConfig } from '../../config/config.ts'

/** The configuration that runs. Parts of it change at a reload: who reads them when they are needed has the newest. */
export class LiveConfig {
  readonly current: Config
  readonly #runtimes: Record<string, RuntimeHandlerConfig>
  readonly #timeouts: { -readonly [K in keyof Config['timeouts']]: Config['timeouts'][K] }

  constructor(config: Config) {
    // As in the configuration, without a prototype.
    this.#runtimes = Object.assign(Object.create(null) as Record<string, RuntimeHandlerConfig>, config.runtimes)
    this.#timeouts = { ...config.timeouts }
    this.current = { ...config, runtimes: this.#runtimes, timeouts: this.#timeouts }
  }

  /** Takes over what `isReloaded` says can be taken over; it is for the caller to know that it may. */
  apply(next: Pick<Config, 'runtimes' | 'timeouts'>, keys: readonly string[]): void {
    if (keys.includes('timeouts.drain')) this.#timeouts.drainMs = next.timeouts.drainMs
    if (!keys.some((key) => key.startsWith('runtimes.'))) return
    for (const name of Object.keys(this.#runtimes)) Reflect.deleteProperty(this.#runtimes, name)
    Object.assign(this.#runtimes, next.runtimes)
  }
}
