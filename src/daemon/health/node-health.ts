import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import { deadline, waitFor } from '../../core/deadline.ts'
import { errorMessage } from '../../core/errors.ts'
import type { Condition, NodeStatus, RuntimeHandlerStatus } from '../../cri/node-status.ts'
import type { RuntimeFeatures } from '../../executor/types.ts'

const PERIOD_MS = 30_000
const FEATURES_TIMEOUT_MS = 5000
const LOOK_TIMEOUT_MS = 5000

export interface NodeHealthDeps {
  readonly networks: CniNetworks
  /** For the verbose Status: how many sandboxes there are, and the like. */
  readonly counts: () => Readonly<Record<string, unknown>>
  /** What an OCI runtime can do. */
  readonly features: (runtimePath: string, signal: AbortSignal) => Promise<RuntimeFeatures>
  /** Why the kernel cannot have pods in user namespaces; `''` when it can. */
  readonly whyNoUserNamespaces: () => Promise<string>
  readonly onPodCidrs: (cidrs: readonly string[]) => void
  /** Rejects for a file that is no program. Default: asks the file system. */
  readonly checkProgram?: (path: string) => Promise<void>
}

/** What the CRI's Status tells of the node. It is looked at now and then, not when somebody asks. */
export class NodeHealth implements NodeStatus, Disposable {
  readonly cgroupDriver: Config['cgroup']['driver']
  readonly #config: Config
  readonly #deps: NodeHealthDeps
  #runtime: Condition = { isTrue: false, reason: 'RuntimeNotChecked', message: 'the runtimes are being looked at' }
  #handlers: readonly RuntimeHandlerStatus[] = []
  #whyNoUserNamespaces = ''
  /** The look at the programs that goes on. */
  #look: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(config: Config, deps: NodeHealthDeps) {
    this.#config = config
    this.#deps = deps
    this.cgroupDriver = config.cgroup.driver
  }

  /** Looks once, then regularly. */
  async start(): Promise<void> {
    await this.refresh()
    this.#timer = setInterval(() => void this.#check(), PERIOD_MS)
    this.#timer.unref()
  }

  /** Looks at all of it now: what runtime handlers there are, too. */
  async refresh(): Promise<void> {
    this.#handlers = await this.#readHandlers()
    await this.#check()
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
    const userNamespaces = { unavailableBecause: this.#whyNoUserNamespaces }
    return { config: this.#config, userNamespaces, ...this.#deps.counts() }
  }

  updatePodCidrs(cidrs: readonly string[]): void {
    this.#deps.networks.setPodCidrs(cidrs)
    this.#deps.onPodCidrs(cidrs)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  async #check(): Promise<void> {
    using limit = deadline('look at the programs of the default runtime handler', LOOK_TIMEOUT_MS)
    // On a file system that hangs a look never ends, and each would hold one of the few threads of all files.
    this.#look ??= this.#lookAtPrograms().finally(() => (this.#look = undefined))
    try {
      await waitFor(this.#look, limit.signal)
      this.#runtime = { isTrue: true, reason: '', message: '' }
    } catch (error) {
      this.#runtime = { isTrue: false, reason: 'RuntimeNotExecutable', message: errorMessage(error) }
    }
  }

  async #lookAtPrograms(): Promise<void> {
    const { runtimes, defaultRuntimeHandler, conmon, pause } = this.#config
    const { checkProgram = async (path) => access(path, constants.X_OK) } = this.#deps
    const handler = runtimes[defaultRuntimeHandler]
    if (!handler?.runtime) return
    const needed = [handler.runtime, conmon.path, ...(pause.image === '' ? [pause.binary] : [])]
    for (const path of needed) await checkProgram(path)
  }

  async #readHandlers(): Promise<RuntimeHandlerStatus[]> {
    const { runtimes, defaultRuntimeHandler } = this.#config
    const binaries = [...new Set(Object.values(runtimes).map(({ runtime }) => runtime))]
    const [why, ...pairs] = await Promise.all([
      this.#deps.whyNoUserNamespaces(),
      ...binaries.map(async (path) => [path, await this.#features(path)] as const),
    ])
    this.#whyNoUserNamespaces = why
    const features = new Map(pairs)
    return ['', ...Object.keys(runtimes)].map((name) => {
      const has = features.get(runtimes[name || defaultRuntimeHandler]?.runtime ?? '')
      return {
        name,
        hasRecursiveReadOnlyMounts: has?.recursiveReadOnlyMounts ?? false,
        // Kubelets then want the volumes of such pods mapped, too.
        hasUserNamespaces: this.#whyNoUserNamespaces === '' && has?.userNamespaces === true && has.idMappedMounts,
      }
    })
  }

  /** One that cannot tell has none of them; whether it is there at all, the runtime condition says. */
  async #features(runtime: string): Promise<RuntimeFeatures | undefined> {
    if (runtime === '') return undefined
    using limit = deadline(`features of ${runtime}`, FEATURES_TIMEOUT_MS)
    return await this.#deps.features(runtime, limit.signal).catch(() => undefined)
  }
}
