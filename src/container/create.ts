import { chmod, chown, mkdir, rename } from 'node:fs/promises'
import { sealCheckpoint, writeCheckpoint } from '../checkpoint/checkpoint.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { Group } from '../core/group.ts'
import type { Observer } from '../core/observer.ts'
import type { Executors } from '../executor/executors.ts'
import type { ContainerIo, ExecutedRecord } from '../executor/types.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { ImageRootfs, ImageView } from '../image/types.ts'
import type { Directories } from '../lifecycle/directories.ts'
import type { DurableDeps } from '../lifecycle/durable.ts'
import type { Steps } from '../lifecycle/steps.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { Bundles } from './bundle.ts'
import { Container } from './container.ts'
import { containerIo } from './io.ts'
import type { OverlayMounts } from './kinds/overlay.ts'
import { type ContainerPaths, type ContainerRoots, containerPaths } from './paths.ts'
import type { Pod } from './pods.ts'
import { type ContainerResourcePlan, containerIntents, planResources } from './resources.ts'
import { applyRootfsDiff } from './checkpoint/rootfs-diff.ts'
import { checkpointSubject, plainMetadata, NEW_STATUS } from './status.ts'
import type { TarLimits } from './checkpoint/tar-reader.ts'
import type { ContainerMetadata, ContainerUser } from './types.ts'

export interface CreateOptions {
  readonly roots: ContainerRoots
  readonly bootId: string
  /** Bytes at which a container's log is begun anew; 0 is no limit. */
  readonly logMaxBytes: number
  readonly createTimeoutMs: number
}

export interface CreateDeps {
  readonly durable: DurableDeps
  readonly executor: Executors
  readonly images: ImageRootfs
  readonly directories: Directories
  readonly overlays: OverlayMounts
  readonly bundles: Bundles
  readonly run: RunProgram
  readonly failpoints: Failpoints
  /** Default: nobody. */
  readonly observer?: Observer | undefined
}

/** What CreateContainer has decided before anything is made. */
export interface CreatePlan {
  readonly metadata: ContainerMetadata
  readonly pod: Pod
  /** This and the ones that it mounts are held until the container is on record. */
  readonly image: ImageView
  /** The ids of images to be mounted, by the names that the request has for them. */
  readonly mountedImages: ReadonlyMap<string, string>
  /** What it is restored from. */
  readonly checkpointed: CheckpointedState | null
}

/** The state of a checkpointed container, in files of ours on the file system of `root`; it is taken from there. */
export interface CheckpointedState {
  readonly images: string
  readonly rootfsDiff: string
  readonly limits: TarLimits
}

/** Who has to know of a container before its creation has ended. */
export interface CreateObserver {
  /** It is on record, and may own something from here on. */
  recorded(container: Container): void
  /** Its process exists: whoever watches for its end does so from here on. */
  created(container: Container, process: ProcessIdentity): void
}

/**
 * The steps of CreateContainer. Nothing is made before `recordIntent`; what is made afterwards is in the ledger, so that
 * whoever calls this can take it back when a step fails, and the next daemon can when this one dies.
 */
export class CreateSequence {
  readonly #plan: CreatePlan
  readonly #steps: Steps
  readonly #observer: CreateObserver
  readonly #options: CreateOptions
  readonly #deps: CreateDeps
  readonly #paths: ContainerPaths
  #container: Container | undefined
  #planned: ExecutedRecord | undefined

  constructor(plan: CreatePlan, steps: Steps, observer: CreateObserver, options: CreateOptions, deps: CreateDeps) {
    this.#plan = plan
    this.#steps = steps
    this.#observer = observer
    this.#options = options
    this.#deps = deps
    this.#paths = containerPaths(options.roots, plan.metadata.id)
    steps.of(plan.metadata.id)
  }

  /** The container, once there is a record of it. */
  get container(): Container | undefined {
    return this.#container
  }

  /**
   * Runs all steps and returns the container, which is CREATED then.
   * @throws CodedError what the failing step threw; then nothing is being made any more, and what was made is in the
   * ledger of the {@link container}.
   */
  async run(signal: AbortSignal): Promise<Container> {
    const step = <T>(name: string, work: () => T | Promise<T>): Promise<T> => this.#steps.run(name, signal, work)
    try {
      const resources = await step('updateContainerConfig', () => this.#planResources())
      const entries = containerIntents(resources, this.#plan.metadata.id, this.#options.bootId)
      const container = await step('recordIntent', () => this.#insert(entries))
      await this.#make(container, resources, entries, signal)
      return container
    } catch (error) {
      // Planning took note of it; nothing of it was made.
      if (this.#planned && !this.#container) {
        await this.#deps.executor.forget(this.#planned, AbortSignal.timeout(FORGET_MS))
      }
      throw error
    }
  }

  async #make(
    container: Container,
    resources: ContainerResourcePlan,
    entries: readonly LedgerEntry[],
    signal: AbortSignal,
  ): Promise<void> {
    // One that fails stops the others: nothing may still be made when the caller takes everything back.
    const group = new Group(signal)
    const step = <T>(name: string, work: () => T | Promise<T>): Promise<T> =>
      group.add(this.#steps.run(name, group.signal, work))
    try {
      const directories = step('createDirectories', () => this.#createDirectories(resources))
      const log = step('prepareLog', () => this.#deps.executor.prepareLog(this.#io(), group.signal))
      const checkpoint = directories.then(() => step('writeCheckpoint', () => this.#writeCheckpoint(entries)))
      const filled = directories.then(() => step('restoreFiles', () => this.#restoreFiles(group.signal)))
      const mounted = filled.then(() => step('mountRootfs', () => this.#mount(resources)))
      const user = directories.then(() =>
        step('writeBundle', () => this.#deps.bundles.write(this.#plan, resources, this.#paths, mounted, group.signal)),
      )
      const created = Promise.all([user, mounted, log]).then(() =>
        step('createProcess', () => this.#create(container, resources, log, group.signal)),
      )
      const [process, found] = await group.settled(Promise.all([created, user, checkpoint]))
      await step('save', () => this.#save(container, process, found))
    } finally {
      group[Symbol.dispose]()
    }
  }

  async #planResources(): Promise<ContainerResourcePlan> {
    const { metadata, pod } = this.#plan
    const executed = await this.#deps.executor.plan({
      id: metadata.id,
      sandboxId: pod.id,
      runtime: pod.runtime,
      tasks: pod.tasks,
      bundleDir: this.#paths.stateDir,
      cgroupsPath: this.#deps.bundles.cgroupsPath(metadata.id, pod),
      hasUserns: pod.userns !== null,
    })
    this.#planned = executed
    return planResources(metadata.config, this.#paths, executed)
  }

  async #insert(entries: readonly LedgerEntry[]): Promise<Container> {
    const record = { metadata: this.#plan.metadata, status: NEW_STATUS, entries, quarantined: '' }
    const container = new Container(record, this.#deps.durable)
    await container.insert()
    this.#container = container
    this.#observer.recorded(container)
    return container
  }

  async #createDirectories({ directories }: ContainerResourcePlan): Promise<void> {
    await Promise.all(directories.map((directory) => this.#deps.directories.acquire(directory)))
    // The container's own root directory: its users look into it.
    await Promise.all([mkdir(this.#paths.upper, { mode: 0o755 }), mkdir(this.#paths.work, { mode: 0o700 })])
    const { userns } = this.#plan.pod
    if (!userns) return
    // Runtimes look the root file system up as the root of the pod, which may go through our directory, and no more.
    const { uid, gid } = userns.root
    await Promise.all([chown(this.#paths.upper, uid, gid), chown(this.#paths.stateDir, 0, gid)])
    await chmod(this.#paths.stateDir, 0o710)
  }

  async #writeCheckpoint(entries: readonly LedgerEntry[]): Promise<void> {
    const { metadata } = this.#plan
    const checkpoint = sealCheckpoint(this.#deps.durable.sealer, checkpointSubject(metadata.id), {
      metadata: plainMetadata(metadata),
      bootId: this.#options.bootId,
      resources: entries.map(({ kind, record }) => ({ kind, record })),
    })
    await writeCheckpoint(this.#paths.checkpoint, checkpoint)
  }

  /** Of a container that is restored: what it had written, and the images that it starts from. */
  async #restoreFiles(signal: AbortSignal): Promise<void> {
    const { checkpointed } = this.#plan
    if (!checkpointed) return
    const { images, rootfsDiff: file, limits } = checkpointed
    await rename(images, this.#paths.images)
    const options = { timeoutMs: this.#options.createTimeoutMs, signal }
    await applyRootfsDiff({ upper: this.#paths.upper, file, limits }, this.#deps.run, options)
  }

  async #mount({ rootfs, imageMounts }: ContainerResourcePlan): Promise<void> {
    const { images, overlays } = this.#deps
    const { upper, work } = this.#paths
    const { image, pod, mountedImages } = this.#plan
    const userns = pod.userns ? { userns: pod.userns.path } : {}
    await overlays.acquire({ path: rootfs, lower: images.lowerDirs(image.id), writable: { upper, work }, ...userns })
    for (const mount of imageMounts) {
      const id = mountedImages.get(mount.image) ?? ''
      await overlays.acquire({ path: mount.path, lower: images.lowerDirs(id), ...userns })
    }
  }

  async #create(
    container: Container,
    { executed }: ContainerResourcePlan,
    logReady: Promise<string>,
    signal: AbortSignal,
  ): Promise<ProcessIdentity | null> {
    if (this.#plan.checkpointed) return null
    const process = await this.#deps.executor.create(executed, signal, this.#io(), logReady)
    this.#observer.created(container, process)
    return process
  }

  #io(): ContainerIo {
    return containerIo(this.#plan.metadata, this.#plan.pod, this.#options.logMaxBytes)
  }

  /** One commit: the container is there, and everything that was intended is held. */
  async #save(container: Container, process: ProcessIdentity | null, user: ContainerUser): Promise<void> {
    await container.save({
      // An end that came in the meantime stays what it is.
      status: (current) => ({
        ...current,
        state: current.exit ? 'EXITED' : 'CREATED',
        visible: true,
        process,
        user,
        resources: this.#plan.metadata.config.linux?.resources ?? null,
      }),
      put: container.entries.map((entry) => ({ ...entry, state: 'held' })),
      log: { why: 'it was created', steps: this.#steps.timings },
    })
  }
}

const FORGET_MS = 10_000
