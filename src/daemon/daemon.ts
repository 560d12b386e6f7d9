import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { loadOrCreateKey } from '../checkpoint/key.ts'
import { CniNetworks } from '../cni/cni-networks.ts'
import type { Config } from '../config/config.ts'
import { CleanupStack } from '../core/cleanup.ts'
import { deadline } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import { Failpoints } from '../core/failpoints.ts'
import { Sealer } from '../core/seal.ts'
import { imageService } from '../cri/image-service.ts'
import { runtimeService, servedContract } from '../cri/runtime-service.ts'
import { type Contracts, loadContracts } from '../grpc/load.ts'
import { GrpcServer } from '../grpc/server.ts'
import { makeDirectory } from '../host/files.ts'
import { loadLibc } from '../host/libc.ts'
import { runBeforeOthers } from '../host/priority.ts'
import { Programs } from '../host/programs/programs.ts'
import { containersDir } from '../container/paths.ts'
import { sandboxesDir } from '../sandbox/paths.ts'
import type { Waits } from '../sandboxer/waits.ts'
import type { Loaded } from '../store/rows.ts'
import { Store } from '../store/store.ts'
import { StreamingServer } from '../streaming/server.ts'
import type { Logger } from '../telemetry/logger.ts'
import { collectStaleAttachments } from './cni-gc.ts'
import { lockInstance } from './instance-lock.ts'
import { buildNode, type Node } from './node.ts'
import { NodeHealth } from './node-health.ts'
import { openSandboxer } from './sandboxer.ts'
import { whyNoUserNamespaces } from './userns-probe.ts'

export interface DaemonDeps {
  readonly logger: Logger
  readonly version: string
  /** Failpoint rules (`SANDBOXERD_FAILPOINTS`); only where the configuration allows them. */
  readonly failpoints: string
}

/**
 * The daemon: builds every part, restores what is on record, serves, recovers. The only place that knows everything.
 * Closing it ends no pod.
 */
export class Daemon implements AsyncDisposable {
  readonly #config: Config
  readonly #logger: Logger
  readonly #version: string
  readonly #failpoints: Failpoints
  readonly #parts = new CleanupStack()
  readonly #closing = new AbortController()
  readonly #servers: GrpcServer[] = []
  #node: Node | undefined
  #streaming: StreamingServer | undefined
  #waits: Waits | undefined
  #recovered: Promise<void> = Promise.resolve()

  private constructor(config: Config, deps: DaemonDeps) {
    this.#config = config
    this.#logger = deps.logger
    this.#version = deps.version
    this.#failpoints = new Failpoints(config.debug.failpoints ? deps.failpoints : '')
  }

  /**
   * Starts it; it serves when this returns, and recovers behind that.
   * @throws CodedError that says what the node lacks; nothing is left open then.
   */
  static async start(config: Config, deps: DaemonDeps): Promise<Daemon> {
    const daemon = new Daemon(config, deps)
    try {
      await daemon.#start()
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

  /** Lets operations that are under way end, for as long as the configuration says, and closes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    // Nobody waits for streams that do not end by themselves.
    this.#node?.events[Symbol.dispose]()
    this.#waits?.[Symbol.dispose]()
    try {
      const { drainMs } = this.#config.timeouts
      await Promise.all([
        ...this.#servers.map((server) => server.close(drainMs)),
        // A session may last for hours: all end at once.
        this.#streaming?.[Symbol.asyncDispose](),
        this.#drain(),
      ])
    } finally {
      await this.#parts[Symbol.asyncDispose]()
    }
  }

  async #start(): Promise<void> {
    const config = this.#config
    await this.#makeDirectories()
    runBeforeOthers()
    const libc = loadLibc()
    // What we were started with is not for pods.
    libc.closeOnExecFrom(3)
    this.#parts.use(lockInstance(libc, join(config.root, 'lock')))
    const sealer = new Sealer(await loadOrCreateKey(config.checkpointKeyFile))
    const programs = this.#parts.use(new Programs())
    const networks = this.#parts.use(
      new CniNetworks(
        { ...config.cni, timeoutMs: config.timeouts.cniMs },
        { logger: this.#logger.child({ module: 'cni' }), run: programs.run },
      ),
    )
    // Asking the plugins for their versions takes as long as opening the database.
    const [{ store, loaded }] = await Promise.all([this.#openStore(), networks.start()])
    setStoredPodCidrs(networks, loaded)

    const failpoints = this.#failpoints
    const contracts = loadContracts()
    const base = { libc, programs, sealer, store, loaded, networks, failpoints, contracts, logger: this.#logger }
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
        onPodCidrs: (cidrs) => void this.#savePodCidrs(store, cidrs),
      }),
    )
    // What it can do it says right from the first answer on.
    await health.start()
    await this.#serve(node, health, contracts)
    this.#recovered = this.#recover(node, networks)
  }

  async #openStore(): Promise<{ store: Store; loaded: Loaded }> {
    const opened = await Store.open(join(this.#config.root, 'sandboxerd.db'))
    this.#parts.use(opened.store)
    const { setAside } = opened.loaded
    if (setAside) this.#logger.error(setAside, 'database was damaged: set aside, rebuilding from checkpoints')
    return opened
  }

  async #makeDirectories(): Promise<void> {
    const { root, state } = this.#config
    const rooms = [sandboxesDir, containersDir].flatMap((directoryIn) => [directoryIn(root), directoryIn(state)])
    for (const directory of [root, state, ...rooms, join(state, 'exits')]) {
      await makeDirectory(directory)
      await chmod(directory, 0o700)
    }
    // The root of a pod's user namespace has to get through to the root file systems of its containers, and a group that
    // may connect to the socket. What they pass is closed to them.
    for (const directory of [root, state, containersDir(state)]) await chmod(directory, 0o711)
  }

  async #openStreaming(node: Node): Promise<StreamingServer> {
    const logger = this.#logger.child({ module: 'streaming' })
    this.#streaming = new StreamingServer(this.#config.streaming, { ...node, logger })
    await this.#streaming.listen()
    return this.#streaming
  }

  async #serve(node: Node, health: NodeHealth, contracts: Contracts): Promise<void> {
    const streaming = await this.#openStreaming(node)
    const { root, cri, sandboxer } = this.#config
    const logger = this.#logger.child({ module: 'grpc' })
    const servers = [cri, sandboxer].map(
      ({ socket, mode, group }) => new GrpcServer({ socketPath: socket, mode, group }, { logger }),
    )
    const [criServer, sandboxerServer] = servers
    const { RuntimeService, ImageService } = contracts.cri.runtime.v1
    const wire = servedContract(RuntimeService.service)
    criServer?.addService(
      wire,
      runtimeService(
        { runtimeVersion: this.#version, layersPath: containersDir(root) },
        { ...node, node: health, streamUrls: streaming, wire, logger },
      ),
    )
    criServer?.addService(
      ImageService.service,
      imageService({ images: node.images, wire: ImageService.service, logger }),
    )
    const served = openSandboxer(this.#config, node, { contracts, logger }, this.#parts)
    this.#waits = served.waits
    sandboxerServer?.addService(served.definition, served.implementation)
    for (const server of servers) {
      this.#servers.push(server)
      await server.listen()
      server.setServing(true)
    }
    this.#logger.info({ cri: cri.socket, sandboxer: sandboxer.socket, streaming: streaming.baseUrl }, 'serving')
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

  async #savePodCidrs(store: Store, cidrs: readonly string[]): Promise<void> {
    try {
      await store.commit([{ op: 'putNode', key: 'pod_cidrs', value: JSON.stringify(cidrs) }])
    } catch (error) {
      this.#logger.warn({ error: errorMessage(error) }, 'pod CIDRs cannot be saved; the kubelet tells them again')
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

function setStoredPodCidrs(networks: CniNetworks, loaded: Loaded): void {
  const stored = loaded.node['pod_cidrs']
  if (stored !== undefined) networks.setPodCidrs(JSON.parse(stored) as string[])
}
