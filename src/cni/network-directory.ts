import type { Logger } from 'pino'
import { sleep } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { statusChain } from './chain.ts'
import { configFingerprint, loadConfigs } from './config-directory.ts'
import type { WatchDirectory } from './directory-watcher.ts'
import { DirectoryWatcher } from './directory-watcher.ts'
import type { PluginRunner } from './plugin.ts'
import type { NetworkStatus } from './readiness.ts'
import { networkNotReady, networkReady, PluginReadiness } from './readiness.ts'
import type { Network } from './usable-network.ts'
import { brokenMessage, resolveNetwork } from './usable-network.ts'
import { isAtLeast } from './version.ts'

export interface NetworkDirectoryOptions {
  readonly confDir: string
  readonly reloadIntervalMs: number
  readonly statusGraceMs: number
}

export interface NetworkDirectoryDeps {
  readonly runner: PluginRunner
  readonly logger: Pick<Logger, 'debug' | 'info' | 'warn'>
  readonly watch: WatchDirectory
  readonly nowMs: () => number
}

const VERSION_TIMEOUT_MS = 5_000
const STATUS_TIMEOUT_MS = 10_000
const WATCH_DEBOUNCE_MS = 100

/** Follows a configuration directory and the status of its default network. Reading what it knows waits for nothing. */
export class NetworkDirectory implements AsyncDisposable {
  readonly #options: NetworkDirectoryOptions
  readonly #deps: NetworkDirectoryDeps
  readonly #watcher: DirectoryWatcher
  readonly #readiness: PluginReadiness
  readonly #stop = new AbortController()
  #networks: readonly Network[] = []
  #fingerprint: string | undefined
  #loadProblem: string | undefined
  #loading: Promise<void> = Promise.resolve()
  #asking: Promise<void> = Promise.resolve()
  #polls: Promise<unknown> = Promise.resolve()

  constructor(options: NetworkDirectoryOptions, deps: NetworkDirectoryDeps) {
    this.#options = options
    this.#deps = deps
    this.#readiness = new PluginReadiness({ graceMs: options.statusGraceMs }, deps)
    this.#watcher = new DirectoryWatcher(
      { dir: options.confDir, debounceMs: WATCH_DEBOUNCE_MS },
      { watch: deps.watch, logger: deps.logger, onChange: () => void this.#reload('always') },
    )
  }

  /** Sorted by file name; the first is the default network. */
  get networks(): readonly Network[] {
    return this.#networks
  }

  get status(): NetworkStatus {
    const [network] = this.#networks
    if (!network)
      return networkNotReady(this.#loadProblem ?? `no CNI network configuration in ${this.#options.confDir}`)
    if ('problem' in network) return networkNotReady(brokenMessage(network))
    return isAtLeast(network.cniVersion, '1.1.0') ? this.#readiness.status : networkReady
  }

  /** Loads once, asks for the status once, and follows both from then on. */
  async start(): Promise<void> {
    // Watching begins first: a file that comes while the directory is read is seen then.
    await this.#watcher.rearm()
    await this.#reload('always')
    await this.#asking
    const follow = async (): Promise<void> => {
      await this.#watcher.rearm()
      await this.#reload('if changed')
    }
    this.#polls = Promise.all([this.#repeat(follow), this.#repeat(() => this.#askStatus())])
  }

  /** Reads the configuration now. Never rejects. */
  async reload(): Promise<void> {
    await this.#reload('always')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new CodedError('Canceled', 'the CNI networks are closed'))
    this.#watcher[Symbol.dispose]()
    await this.#polls
    await this.#loading
    await this.#asking
  }

  async #repeat(work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        await sleep(this.#options.reloadIntervalMs, signal)
      } catch {
        // Stopped while asleep: the only reason for which this sleep rejects.
        return
      }
      await work()
    }
  }

  /** Never rejects; one at a time. */
  #reload(when: 'always' | 'if changed'): Promise<void> {
    this.#loading = this.#loading.then(async () => {
      try {
        if (!this.#stop.signal.aborted) await this.#load(when)
      } catch (error) {
        this.#onLoadFailure(error)
      }
    })
    return this.#loading
  }

  async #load(when: 'always' | 'if changed'): Promise<void> {
    const fingerprint = await configFingerprint(this.#options.confDir)
    const isChanged = fingerprint !== this.#fingerprint
    // A broken network is looked at again each time: its plugins may have been installed since.
    const isBroken = this.#networks.some((network) => 'problem' in network)
    if (when === 'if changed' && !isChanged && !isBroken) return
    const { configs, skipped } = await loadConfigs(this.#options.confDir)
    const limits = { timeoutMs: VERSION_TIMEOUT_MS, signal: this.#stop.signal }
    const networks: Network[] = []
    for (const config of configs) networks.push(await resolveNetwork(this.#deps.runner, config, limits))
    this.#networks = networks
    this.#fingerprint = fingerprint
    this.#loadProblem = undefined
    if (isChanged) this.#report(skipped)
    void this.#askStatus()
  }

  /** A directory that cannot be read is not an empty one: the networks known so far stay. */
  #onLoadFailure(error: unknown): void {
    if (this.#stop.signal.aborted) return
    const message = `load CNI networks from ${this.#options.confDir}: ${errorMessage(error)}`
    if (message !== this.#loadProblem) this.#deps.logger.warn({ error: message }, 'CNI networks not reloaded')
    this.#loadProblem = message
  }

  #report(skipped: readonly { readonly file: string; readonly why: string }[]): void {
    const { logger } = this.#deps
    for (const { file, why } of skipped) logger.warn({ file, why }, 'CNI configuration file skipped')
    for (const network of this.#networks) {
      if ('problem' in network)
        logger.warn({ network: network.config.name, why: network.problem }, 'CNI network not usable')
    }
    logger.info({ networks: this.#networks.map((network) => network.config.name) }, 'CNI networks loaded')
  }

  /** Asks the default network, on which the readiness of the node hangs. Never rejects; one at a time. */
  #askStatus(): Promise<void> {
    this.#asking = this.#asking.then(async () => {
      const [network] = this.#networks
      if (!network || 'problem' in network) return this.#readiness.reset()
      try {
        await statusChain(this.#deps.runner, network, { timeoutMs: STATUS_TIMEOUT_MS, signal: this.#stop.signal })
        this.#readiness.succeeded()
      } catch (error) {
        if (this.#stop.signal.aborted) return
        this.#readiness.failed(`CNI network ${network.config.name}: ${errorMessage(error)}`)
      }
    })
    return this.#asking
  }
}
