import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import type { CniNetworks } from '../cni/cni-networks.ts'
import type { Config } from '../config/config.ts'
import { errorMessage } from '../core/errors.ts'
import type { Condition, NodeStatus, RuntimeHandlerStatus } from '../cri/node-status.ts'
import { run } from '../host/run.ts'

const PERIOD_MS = 30_000
const FEATURES_TIMEOUT_MS = 5000

export interface NodeHealthDeps {
  readonly networks: CniNetworks
  /** For the verbose Status: how many sandboxes there are, and the like. */
  readonly counts: () => Readonly<Record<string, unknown>>
  readonly onPodCidrs: (cidrs: readonly string[]) => void
}

/** What the CRI's Status tells of the node. It is looked at now and then, not when somebody asks. */
export class NodeHealth implements NodeStatus, Disposable {
  readonly cgroupDriver: Config['cgroup']['driver']
  readonly #config: Config
  readonly #deps: NodeHealthDeps
  #runtime: Condition = { isTrue: false, reason: 'RuntimeNotChecked', message: 'the runtimes are being looked at' }
  #handlers: readonly RuntimeHandlerStatus[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(config: Config, deps: NodeHealthDeps) {
    this.#config = config
    this.#deps = deps
    this.cgroupDriver = config.cgroup.driver
  }

  /** Looks once, then regularly. */
  async start(): Promise<void> {
    this.#handlers = await this.#readHandlers()
    await this.#check()
    this.#timer = setInterval(() => void this.#check(), PERIOD_MS)
    this.#timer.unref()
  }

  runtimeHandlers(): readonly RuntimeHandlerStatus[] {
    return this.#handlers
  }

  runtimeCondition(): Condition {
    return this.#runtime
  }

  networkCondition(): Condition {
    const { ready, reason, message } = this.#deps.networks.status()
    return { isTrue: ready, reason, message }
  }

  verbose(): Readonly<Record<string, unknown>> {
    return { config: this.#config, ...this.#deps.counts() }
  }

  updatePodCidrs(cidrs: readonly string[]): void {
    this.#deps.networks.setPodCidrs(cidrs)
    this.#deps.onPodCidrs(cidrs)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  async #check(): Promise<void> {
    const { runtimes, defaultRuntimeHandler, conmon, pause } = this.#config
    const handler = runtimes[defaultRuntimeHandler]
    const needed = handler?.runtime ? [handler.runtime, conmon.path, ...(pause.image === '' ? [pause.binary] : [])] : []
    try {
      for (const path of needed) await access(path, constants.X_OK)
      this.#runtime = { isTrue: true, reason: '', message: '' }
    } catch (error) {
      this.#runtime = { isTrue: false, reason: 'RuntimeNotExecutable', message: errorMessage(error) }
    }
  }

  async #readHandlers(): Promise<RuntimeHandlerStatus[]> {
    const { runtimes, defaultRuntimeHandler } = this.#config
    const binaries = [...new Set(Object.values(runtimes).map(({ runtime }) => runtime))]
    const features = new Map(
      await Promise.all(binaries.map(async (path) => [path, await hasRecursiveReadOnly(path)] as const)),
    )
    return ['', ...Object.keys(runtimes)].map((name) => ({
      name,
      hasRecursiveReadOnlyMounts: features.get(runtimes[name || defaultRuntimeHandler]?.runtime ?? '') ?? false,
      hasUserNamespaces: false,
    }))
  }
}

/** Asks the runtime (`features`, OCI runtime-spec 1.1) for the mount option `rro`; one that cannot tell has it not. */
async function hasRecursiveReadOnly(runtime: string): Promise<boolean> {
  if (runtime === '') return false
  try {
    const { exitCode, stdout } = await run(runtime, ['features'], { timeoutMs: FEATURES_TIMEOUT_MS })
    if (exitCode !== 0) return false
    const { mountOptions } = JSON.parse(stdout) as { mountOptions?: unknown }
    return Array.isArray(mountOptions) && mountOptions.includes('rro')
  } catch {
    // Too old to know the command, or not there: which of the two, the runtime condition says.
    return false
  }
}
