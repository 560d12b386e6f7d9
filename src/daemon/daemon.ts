import { join } from 'node:path'
import { loadOrCreateKey } from '../checkpoint/key.ts'
import { CniNetworks } from '../cni/cni-networks.ts'
import type { Config } from '../config/config.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { Reload } from '../admin/api.ts'
import { CleanupStack } from '../core/cleanup.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import { Failpoints } from '../core/failpoints.ts'
import type { Observer } from '../core/observer.ts'
import { Sealer } from '../core/seal.ts'
import { loadContracts } from '../grpc/load.ts'
import { loadLibc } from '../host/libc.ts'
import type { PassedSocket } from '../host/systemd/service-environment.ts'
import { runBeforeOthers } from '../host/priority.ts'
import { Programs } from '../host/programs/programs.ts'
import { containersDir } from '../container/paths.ts'
import type { Loaded } from '../store/rows.ts'
import type { Store } from '../store/store.ts'
import { StreamingServer } from '../streaming/server.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Logs } from '../telemetry/logs.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { AdminServer } from '../admin/server.ts'
import { pullProgress } from '../admin/pull-progress.ts'
import { type AdminParts, openAdmin } from './parts/admin.ts'
import { activatedSockets } from './service/activation.ts'
import { collectStaleAttachments } from './cni-gc.ts'
import { databasePath, makeDirectories } from './directories.ts'
import { type Examine, openDoctor } from './doctor/doctor.ts'
import { FrontServers } from './front-servers.ts'
import { lockInstance } from './instance-lock.ts'
import { buildNode, type Node } from './node.ts'
import { LiveConfig } from './service/live-config.ts'
import { NodeHealth } from './health/node-health.ts'
import { openStore } from './open-store.ts'
import { restorePodCidrs, savePodCidrs } from './pod-cidrs.ts'
import { Reloader } from './service/reload.ts'
import { type Left, removeAll } from './remove-all.ts'
import { SandboxerHealth } from './health/sandboxer-health.ts'
import { ServiceState } from './service/service-state.ts'
import { statusLine } from './service/status-line.ts'
import { openMetricsServer, openTelemetry, type WatchedParts, watchNode } from './parts/telemetry.ts'
import { whyNoUserNamespaces } from './health/userns-probe.ts'

export interface DaemonDeps {
  readonly logs: Logs
  readonly version: string
  /** Failpoint rules (`SANDBOXERD_FAILPOINTS`); only where the configuration allows them. */
  readonly failpoints: string
  /** Listening sockets that the service manager holds for us. Default: none. */
  readonly sockets?: readonly PassedSocket[]
  /** Whom to tell how we are. Default: nobody. */
  readonly service?: ServiceState
  /** Reads the configuration again, from where it was read first. Default: it never changes. */
  readonly load?: () => Promise<LoadedConfig>
}

/** What a daemon that stops takes beyond the time for requests under way: closing its parts. */
const CLOSE_MS = 30_000
/** How much longer the service manager waits than that, so that who gives up first can say why. */
const MARGIN_MS = 15_000

/**
 * The daemon: builds every part, restores what is on record, serves, recovers. The only place that knows everything.
 * Closing it ends no pod.
 */
export class Daemon implements AsyncDisposable {
  readonly #live: LiveConfig
  readonly #config: Config
  readonly #sockets: readonly PassedSocket[]
  readonly #service: ServiceState
  readonly #reloader: Reloader
  readonly #logs: Logs
  readonly #logger: Logger
  readonly #version: string
  readonly #failpoints: Failpoints
  readonly #parts = new CleanupStack()
  readonly #closing = new AbortController()
  #node: Node | undefined
  #health: NodeHealth | undefined
  #networks: CniNetworks | undefined
  #streaming: StreamingServer | undefined
  #servers: FrontServers | undefined
  #admin: AdminServer | undefined
  #recovered: Promise<void> = Promise.resolve()
  #isRecovered = false
  readonly #file: string | undefined

  private constructor(loaded: LoadedConfig, deps: DaemonDeps) {
    this.#live = new LiveConfig(loaded.config)
    const config = this.#live.current
    this.#config = config
    this.#file = loaded.file
    this.#sockets = deps.sockets ?? []
    this.#logs = deps.logs
    this.#logger = deps.logs.of('daemon')
    this.#version = deps.version
    this.#failpoints = new Failpoints(config.debug.failpoints ? deps.failpoints : '')
    this.#service = deps.service ?? new ServiceState({ notify: undefined, logger: this.#logger })
    this.#reloader = new Reloader(loaded, {
      load: deps.load ?? (async () => loaded),
      apply: (next, keys) => this.#apply(next, keys),
      service: this.#service,
      logger: this.#logger,
    })
  }

  /**
   * Starts it; it serves when this returns, and recovers behind that.
   * @throws CodedError that says what the node lacks; nothing is left open then.
   */
  static async start(loaded: LoadedConfig, deps: DaemonDeps): Promise<Daemon> {
    const daemon = new Daemon(loaded, deps)
    try {
      // Another start would begin at the same place: what is slow gets its time.
      await daemon.#service.takingLong('starting', () => daemon.#start())
      return daemon
    } catch (error) {
      await daemon[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Resolves when every restored sandbox has been looked at. */
  get recovered(): Promise<void> {
    return this.#recovered
  }

  /** Stops and removes all that there is, whoever has asked for it; returns what is left when `signal` aborts. */
  async removeAll(signal: AbortSignal): Promise<readonly Left[]> {
    await waitFor(this.#recovered, signal)
    return this.#node ? removeAll(this.#node, signal) : []
  }

  /** How the pods are, in a few words. */
  describe(): string {
    return this.#node ? statusLine(this.#node.sandboxes) : 'starting'
  }

  /** See {@link Reloader.reload}. */
  async reload(): Promise<Reload> {
    return this.#reloader.reload()
  }

  /** When closing it takes longer than this, something does not end. */
  get stopLimitMs(): number {
    return this.#config.timeouts.drainMs + CLOSE_MS
  }

  /** Lets operations that are under way end, for as long as the configuration says, and closes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#service.stopping(this.stopLimitMs + MARGIN_MS)
    this.#closing.abort()
    // Nobody waits for streams that do not end by themselves.
    this.#node?.events[Symbol.dispose]()
    try {
      const { drainMs } = this.#config.timeouts
      await Promise.all([
        this.#servers?.close(drainMs),
        // A session may last for hours: all end at once.
        this.#streaming?.[Symbol.asyncDispose](),
        this.#admin?.close(drainMs),
        this.#drain(),
      ])
    } finally {
      await this.#parts[Symbol.asyncDispose]()
    }
  }

  async #start(): Promise<void> {
    const config = this.#config
    const { cri, sandboxer, admin } = config
    const wanted = {
      '[cri] socket': cri.socket,
      '[sandboxer] socket': sandboxer.socket,
      '[admin] socket': admin.socket,
    }
    const activated = activatedSockets(this.#sockets, wanted)
    await makeDirectories(config)
    runBeforeOthers()
    const libc = loadLibc()
    // What we were started with is not for pods.
    libc.closeOnExecFrom(3)
    const told = { logs: this.#logs, version: this.#version }
    const { observer, metrics } = await openTelemetry(config, told, this.#parts)
    this.#parts.use(lockInstance(libc, join(config.root, 'lock')))
    const sealer = new Sealer(await loadOrCreateKey(config.checkpointKeyFile))
    const programs = this.#parts.use(new Programs())
    const networks = this.#parts.use(
      new CniNetworks(
        { ...config.cni, timeoutMs: config.timeouts.cniMs },
        { logger: this.#logs.of('cni'), run: programs.run, observer },
      ),
    )
    this.#networks = networks
    // Asking the plugins for their versions takes as long as opening the database.
    this.#service.status('opening the database')
    const [{ store, loaded }] = await Promise.all([this.#openStore(observer), networks.start()])
    this.#service.status('starting')
    restorePodCidrs(loaded, { networks, logger: this.#logger })

    const failpoints = this.#failpoints
    const contracts = loadContracts()
    const base = { libc, programs, sealer, store, loaded, networks, failpoints, contracts, observer, logs: this.#logs }
    const node = await buildNode(config, base, this.#parts)
    this.#node = node
    const health = this.#parts.use(
      new NodeHealth(config, {
        networks,
        counts: () => ({ ...node.sandboxes.counts(), ...node.containers.counts() }),
        features: (path, signal) => node.executor.runtimeFeatures(path, signal),
        whyNoUserNamespaces: () =>
          whyNoUserNamespaces(
            { directory: join(config.root, 'userns-probe'), entered: [config.root, containersDir(config.state)] },
            node,
          ),
        onPodCidrs: (cidrs) => void savePodCidrs(cidrs, { store, logger: this.#logger }),
      }),
    )
    // What it can do it says right from the first answer on.
    await health.start()
    this.#health = health
    const streaming = await this.#openStreaming(node)
    const sandboxers = new SandboxerHealth(node)
    await this.#watch(metrics, { node, networks, health, streaming, sandboxers })
    const examine = openDoctor(config, node, {
      ...base,
      isRecovered: () => this.#isRecovered,
      logger: this.#logs.of('doctor'),
    })
    const fd = activated.get(admin.socket)
    await this.#openAdmin({ node, health, store, sealer, metrics, sandboxers, examine, fd })
    const front = { node, health, streaming, contracts, observer, ...told, activated, parts: this.#parts }
    this.#servers = new FrontServers(config, front)
    await this.#servers.listen()
    const { baseUrl } = streaming
    const held = [...activated.keys()]
    this.#logger.info({ cri: cri.socket, sandboxer: sandboxer.socket, streaming: baseUrl, held }, 'serving')
    this.#recovered = this.#recover(node, networks).finally(() => (this.#isRecovered = true))
  }

  async #openStore(observer: Observer): Promise<{ store: Store; loaded: Loaded }> {
    const path = databasePath(this.#config.root)
    const opened = await openStore(path, { version: this.#version, observer, logger: this.#logger })
    this.#parts.use(opened.store)
    return opened
  }

  async #openStreaming(node: Node): Promise<StreamingServer> {
    const logger = this.#logs.of('streaming')
    this.#streaming = new StreamingServer(this.#config.streaming, { ...node, logger })
    await this.#streaming.listen()
    return this.#streaming
  }

  /** Metrics can be had as soon as there is something to tell. */
  async #watch(metrics: Metrics, parts: Omit<WatchedParts, 'isRecovered' | 'watchdogPings'>): Promise<void> {
    const isRecovered = (): boolean => this.#isRecovered
    watchNode(metrics, { ...parts, isRecovered, watchdogPings: () => this.#service.pings })
    await openMetricsServer(this.#config, { metrics, logs: this.#logs }, this.#parts)
  }

  async #openAdmin(
    parts: Pick<AdminParts, 'node' | 'health' | 'store' | 'sealer' | 'fd'> & {
      readonly metrics: Metrics
      readonly sandboxers: SandboxerHealth
      readonly examine: Examine
    },
  ): Promise<void> {
    const { node, metrics, sandboxers, examine } = parts
    this.#admin = await openAdmin({
      ...parts,
      config: this.#config,
      configFile: this.#file,
      version: this.#version,
      streamingUrl: this.#streaming?.baseUrl ?? '',
      isRecovered: () => this.#isRecovered,
      others: {
        operations: () => metrics.activities.operations(),
        probeSandboxers: () => sandboxers.probe(),
        logLevels: this.#logs,
        reload: () => this.reload(),
        pull: (body, signal) => pullProgress(body, node, signal),
        metrics: () => metrics.text(),
        doctor: examine,
      },
      logger: this.#logs.of('admin'),
    })
  }

  /** What can fail comes first: then nothing has changed. */
  async #apply(next: Config, keys: readonly string[]): Promise<void> {
    await this.#streaming?.reloadTls()
    this.#node?.addSandboxers(next.sandboxers)
    this.#live.apply(next, keys)
    this.#logs.configure(next.log)
    await Promise.all([this.#networks?.reload(), this.#health?.refresh()])
  }

  async #recover({ sandboxes, containers }: Node, networks: CniNetworks): Promise<void> {
    try {
      await Promise.all([containers.recover(), sandboxes.recover()])
      this.#logger.info({ ...sandboxes.counts(), ...containers.counts() }, 'recovered')
      await collectStaleAttachments(sandboxes, networks, this.#closing.signal)
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#logger.warn({ err: error }, 'recovery or CNI GC failed')
    }
  }

  async #drain(): Promise<void> {
    if (!this.#node) return
    using limit = deadline('drain', this.#config.timeouts.drainMs)
    try {
      await Promise.all([this.#node.sandboxes.drain(limit.signal), this.#node.containers.drain(limit.signal)])
    } catch (error) {
      this.#logger.warn({ error: errorMessage(error) }, 'operations are left to the next start')
    }
  }
}
