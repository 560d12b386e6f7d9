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
import { runtimeService } from '../cri/runtime-service.ts'
import { ConmonExecutor } from '../executor/conmon-executor.ts'
import { ExitWatch } from '../executor/exit-watch.ts'
import { loadCri, loadSandboxApi } from '../grpc/load.ts'
import { GrpcServer } from '../grpc/server.ts'
import { makeDirectory } from '../host/files.ts'
import { Kernel } from '../host/kernel.ts'
import { type Libc, loadLibc } from '../host/libc.ts'
import { runBeforeOthers } from '../host/priority.ts'
import { readBootId } from '../host/process.ts'
import { Programs } from '../host/programs.ts'
import { NetnsPins } from '../netns/netns.ts'
import { CniAttachments } from '../sandbox/kinds/cni.ts'
import { ControlledSandboxes } from '../sandbox/kinds/controlled.ts'
import { Directories } from '../sandbox/kinds/directory.ts'
import { ShmMounts } from '../sandbox/kinds/shm.ts'
import { loadSandboxes } from '../sandbox/load.ts'
import { sandboxesDir } from '../sandbox/paths.ts'
import { Releaser } from '../sandbox/release.ts'
import { SandboxManager } from '../sandbox/sandbox-manager.ts'
import type { Loaded } from '../store/rows.ts'
import { Store } from '../store/store.ts'
import type { Logger } from '../telemetry/logger.ts'
import { buildControllers } from './controllers.ts'
import { deriveResources } from './derive-resources.ts'
import { collectStaleAttachments } from './cni-gc.ts'
import { lockInstance } from './instance-lock.ts'
import { NodeHealth } from './node-health.ts'
import { openPauseSource } from './pause-source.ts'

/** Setting up or removing a namespace or mount. */
const KERNEL_MS = 30_000

export interface DaemonDeps {
  readonly logger: Logger
  readonly version: string
  /** Failpoint rules (`SANDBOXERD_FAILPOINTS`); only where the configuration allows them. */
  readonly failpoints: string
}

/** What stands below the sandboxes. */
interface Base {
  readonly libc: Libc
  readonly programs: Programs
  readonly sealer: Sealer
  readonly store: Store
  readonly loaded: Loaded
  readonly networks: CniNetworks
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
  #manager: SandboxManager | undefined
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
    try {
      const { drainMs } = this.#config.timeouts
      await Promise.all([...this.#servers.map((server) => server.close(drainMs)), this.#drain()])
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

    const manager = await this.#buildManager({ libc, programs, sealer, store, loaded, networks })
    const health = this.#parts.use(
      new NodeHealth(config, {
        networks,
        counts: () => manager.counts(),
        onPodCidrs: (cidrs) => void this.#savePodCidrs(store, cidrs),
      }),
    )
    const started = health.start()
    await this.#serve(manager, health)
    await started
    this.#recovered = this.#recover(manager, networks)
  }

  async #openStore(): Promise<{ store: Store; loaded: Loaded }> {
    const opened = await Store.open(join(this.#config.root, 'sandboxerd.db'))
    this.#parts.use(opened.store)
    const { setAside } = opened.loaded
    if (setAside) this.#logger.error(setAside, 'database was damaged: set aside, rebuilding from checkpoints')
    return opened
  }

  async #makeDirectories(): Promise<void> {
    const { root, state, cri, sandboxer } = this.#config
    for (const directory of [root, state, sandboxesDir(root), sandboxesDir(state), join(state, 'exits')]) {
      await makeDirectory(directory)
      await chmod(directory, 0o700)
    }
    // A group that may connect has to get through to the socket.
    if (cri.group !== '' || sandboxer.group !== '') await chmod(state, 0o711)
  }

  async #buildManager(base: Base): Promise<SandboxManager> {
    const { libc, programs, sealer, store, loaded, networks } = base
    const config = this.#config
    const { timeouts } = config
    const bootId = readBootId()
    const roots = { root: config.root, state: config.state }
    const kernel = this.#parts.use(new Kernel({ timeoutMs: KERNEL_MS }))
    kernel.warmUp()
    const exitsDir = join(config.state, 'exits')
    const exits = this.#parts.use(
      new ExitWatch({ directory: exitsDir, bootId }, { logger: this.#logger.child({ module: 'executor' }) }),
    )
    const executor = new ConmonExecutor(
      { conmonPath: config.conmon.path, exitsDir, runtimeTimeoutMs: timeouts.runtimeMs, bootId },
      { libc, programs, exits },
    )
    const pause = await openPauseSource(config, this.#parts)
    const { registry, pauses } = await buildControllers(config, { executor, kernel, pause: pause.program }, this.#parts)

    const logger = this.#logger.child({ module: 'sandbox' })
    const netns = new NetnsPins({ directory: config.netnsDir }, { kernel })
    const directories = new Directories(roots)
    const shm = new ShmMounts(roots, { kernel })
    const controlled = new ControlledSandboxes({ registry })
    const releaser = new Releaser(
      { budgetMs: timeouts.releaseMs },
      {
        kinds: [directories, shm, netns, new CniAttachments({ networks }), controlled],
        failpoints: this.#failpoints,
        logger,
      },
    )
    const manager = this.#parts.use(
      new SandboxManager(
        {
          roots,
          bootId,
          defaultRuntimeHandler: config.defaultRuntimeHandler,
          sandboxers: new Map(Object.entries(config.runtimes).map(([name, { sandboxer }]) => [name, sandboxer])),
          runTimeoutMs: timeouts.runPodSandboxMs,
          stopGraceMs: timeouts.stopGraceMs,
          releaseMs: timeouts.releaseMs,
          recoveryConcurrency: config.recovery.concurrency,
          lastCreatedAtNs: BigInt(loaded.node['last_created_at_ns'] ?? '0'),
        },
        {
          run: {
            sandboxDeps: { store, sealer },
            sealer,
            networks,
            netns,
            directories,
            shm,
            failpoints: this.#failpoints,
            ensurePauseImage: pause.ensure,
          },
          registry,
          controlled,
          releaser,
          logger,
        },
      ),
    )
    this.#manager = manager
    const derive = deriveResources(config, { netns, networks, pauses })
    await manager.restore(loadSandboxes(loaded, { roots, bootId }, { sealer, deriveResources: derive }))
    return manager
  }

  async #serve(manager: SandboxManager, health: NodeHealth): Promise<void> {
    const { cri, sandboxer } = this.#config
    const logger = this.#logger.child({ module: 'grpc' })
    const servers = [cri, sandboxer].map(
      ({ socket, mode, group }) => new GrpcServer({ socketPath: socket, mode, group }, { logger }),
    )
    const [criServer, sandboxerServer] = servers
    const { RuntimeService, ImageService } = loadCri().runtime.v1
    const { ListPodSandbox } = RuntimeService.service
    criServer?.addService(
      RuntimeService.service,
      runtimeService(
        { runtimeVersion: this.#version },
        { sandboxes: manager, node: health, encodeList: ListPodSandbox.responseSerialize, logger },
      ),
    )
    criServer?.addService(ImageService.service, {})
    sandboxerServer?.addService(loadSandboxApi().containerd.services.sandbox.v1.Controller.service, {})
    for (const server of servers) {
      this.#servers.push(server)
      await server.listen()
      server.setServing(true)
    }
    this.#logger.info({ cri: cri.socket, sandboxer: sandboxer.socket }, 'serving')
  }

  async #recover(manager: SandboxManager, networks: CniNetworks): Promise<void> {
    try {
      await manager.recover()
      this.#logger.info(manager.counts(), 'recovered')
      await collectStaleAttachments(manager, networks, this.#closing.signal)
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
    if (!this.#manager) return
    using limit = deadline('drain', this.#config.timeouts.drainMs)
    try {
      await this.#manager.drain(limit.signal)
    } catch (error) {
      this.#logger.warn({ error: errorMessage(error) }, 'operations are left to the next start')
    }
  }
}

function setStoredPodCidrs(networks: CniNetworks, loaded: Loaded): void {
  const stored = loaded.node['pod_cidrs']
  if (stored !== undefined) networks.setPodCidrs(JSON.parse(stored) as string[])
}
