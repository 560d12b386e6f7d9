import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import type { AuthConfig__Output } from '../generated/runtime/v1/AuthConfig.ts'
import { makeDirectory, readTextIfAny, removeTree, writeFileAtomic } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import type { Logger } from '../telemetry/logger.ts'
import { type Credentials, credentialsOf } from './credentials.ts'
import { DiskReserve } from './disk-reserve.ts'
import { type BothUsages, DiskUsage } from './disk-usage.ts'
import { GarbageCollector } from './garbage-collector.ts'
import { ImageIndex, type IndexedImage } from './image-index.ts'
import { ImagePuller } from './image-puller.ts'
import { ImageTools, type ImageToolsOptions, storageConf } from './image-tools.ts'
import { endOrphanedTools } from './orphaned-tools.ts'
import { PullTrack, type TellProgress } from './pull-progress.ts'
import { parseReference } from './reference.ts'
import { SharedWorks } from './shared-works.ts'
import { Gate, Queue } from './turns.ts'
import type { ImageRootfs, Images, ImageView } from './types.ts'

export interface ImageStoreOptions
  extends Pick<ImageToolsOptions, 'skopeo' | 'storageTool' | 'registriesConf' | 'certsDir' | 'policy' | 'env'> {
  /** The daemon's directories: layers lie in `<root>/images`, what ends with a reboot in `<state>/images`. */
  readonly root: string
  readonly state: string
  readonly maxConcurrentPulls: number
  /** One pull with all that belongs to it. */
  readonly pullTimeoutMs: number
  /** A pull that leaves less on the disk is ended. */
  readonly minFreeBytes: number
  /** References whose images are pinned. */
  readonly pinned: readonly string[]
}

export interface ImageStoreDeps {
  readonly run: RunProgram
  readonly libc: Libc
  readonly logger: Logger
  /** The containers that use an image, by its id (`sha256:…`); for errors and to keep it. */
  readonly usedBy: (imageId: string) => readonly string[]
  /** Default: nobody. */
  readonly observer?: Observer
}

const NO_CREDENTIALS: Credentials = { authFile: '', fingerprint: '', secrets: [] }

/**
 * The images of this node, in a layer store of containers/storage that skopeo fills.
 *
 * Names are always a digest (`repo@sha256:…`), which stays when a tag moves on, and the tag that was asked for.
 */
export class ImageStore implements Images, ImageRootfs, AsyncDisposable {
  readonly #options: ImageStoreOptions
  readonly #deps: ImageStoreDeps
  readonly #observer: Observer
  readonly #graph: string
  readonly #tools: ImageTools
  readonly #index: ImageIndex
  readonly #usage: DiskUsage
  readonly #reserve: DiskReserve
  readonly #garbage: GarbageCollector
  readonly #pulls = new SharedWorks<string>()
  /** Of the pulls under way that somebody may still join. */
  readonly #tracks = new Map<string, PullTrack>()
  readonly #puller: ImagePuller
  /** Pulls are inside; the collection of garbage is alone. */
  readonly #gate = new Gate()
  /** Changes of names and removals, one after the other. */
  readonly #changes = new Queue()
  readonly #holds = new Map<string, number>()
  readonly #closing = new AbortController()
  private constructor(options: ImageStoreOptions, deps: ImageStoreDeps) {
    this.#options = options
    this.#deps = deps
    this.#observer = deps.observer ?? UNOBSERVED
    const { root, state } = options
    this.#graph = join(root, 'images')
    const graph = this.#graph
    const storageConfFile = join(state, 'images-storage.conf')
    this.#tools = new ImageTools(
      { ...options, graph, run: join(state, 'images'), storageConfFile, timeoutMs: options.pullTimeoutMs },
      { run: deps.run },
    )
    this.#index = new ImageIndex({ graph, pinned: options.pinned }, { logger: deps.logger })
    this.#reserve = new DiskReserve({ path: join(this.#graph, 'reserve') }, deps)
    this.#usage = new DiskUsage(
      { graph, containersDir: join(root, 'containers') },
      { layers: () => this.#index.records.layers.keys(), run: deps.run },
    )
    this.#garbage = new GarbageCollector(
      { graph },
      { ...deps, tools: this.#tools, gate: this.#gate, changes: this.#changes },
    )
    const { maxConcurrentPulls: maxConcurrent, pullTimeoutMs: timeoutMs, minFreeBytes } = options
    const directories = { graph, scratchDir: this.#scratchDir, authDir: this.#authDir }
    this.#puller = new ImagePuller(
      { ...directories, maxConcurrent, timeoutMs, minFreeBytes, closing: this.#closing.signal },
      {
        tools: this.#tools,
        index: this.#index,
        gate: this.#gate,
        changes: this.#changes,
        garbage: this.#garbage,
        logger: deps.logger,
      },
    )
  }

  /**
   * Opens the store: ends what an earlier daemon has left running, removes its temporary files, and collects what it left
   * unfinished (behind its return; pulls wait for that). A store that cannot be read is told in the log and changed by
   * nobody: the daemon and its pods do without.
   */
  static async open(options: ImageStoreOptions, deps: ImageStoreDeps): Promise<ImageStore> {
    const store = new ImageStore(options, deps)
    await store.#open()
    return store
  }

  async pull(
    request: { readonly image: string; readonly auth: AuthConfig__Output | null },
    signal: AbortSignal,
    tell?: TellProgress,
  ): Promise<string> {
    const reference = parseReference(request.image)
    const credentials = credentialsOf(request.auth, reference.registry)
    const known = reference.digest === '' ? undefined : this.#index.byName(reference.name)
    if (known) return known.view.id
    const { name, registry, repository, tag } = reference
    const source = { what: name, from: `docker://${name}`, registry }
    const namesOf = (digest: string): [string, ...string[]] => [
      `${repository}@${digest}`,
      ...(tag === '' ? [] : [name]),
    ]
    const pull = (ended: AbortSignal, track: PullTrack): Promise<string> =>
      this.#observer.run({ kind: 'image', name: 'pull' }, () =>
        this.#puller.pull({ source, namesOf, credentials, track }, ended),
      )
    return this.#join(`${name} ${credentials.fingerprint}`, signal, pull, tell)
  }

  /**
   * Copies an image from a source of skopeo's with its transport (`oci:/path:tag`), under the name that is given; one that
   * is there already is not replaced.
   * @throws CodedError as {@link pull}.
   */
  async load(request: { readonly source: string; readonly name: string }, signal: AbortSignal): Promise<string> {
    const { name } = parseReference(request.name)
    const known = this.#index.byName(name)
    if (known) return known.view.id
    const source = { what: request.source, from: request.source, registry: '' }
    const namesOf = (): [string] => [name]
    return this.#join(`${name} ${request.source}`, signal, (ended, track) =>
      this.#puller.pull({ source, namesOf, credentials: NO_CREDENTIALS, track }, ended),
    )
  }

  get(image: string): ImageView | undefined {
    return this.#index.find(image)?.view
  }

  list(image = ''): ImageView[] {
    const found = image === '' ? this.#index.all() : [this.#index.find(image)]
    return found.flatMap((one) => one?.view ?? [])
  }

  async remove(image: string, signal: AbortSignal): Promise<void> {
    await waitFor(
      this.#changes.run(async () => await this.#remove(image)),
      signal,
    )
  }

  async fsInfo(signal: AbortSignal): Promise<BothUsages> {
    return this.#usage.get(signal)
  }

  hold(image: string): ImageView & Disposable {
    const found = this.#index.find(image)
    if (!found) throw new CodedError('NotFound', `image ${JSON.stringify(image)}: there is none`)
    const { view } = found
    this.#holds.set(view.id, (this.#holds.get(view.id) ?? 0) + 1)
    let isHeld = true
    const release = (): void => {
      if (!isHeld) return
      isHeld = false
      const left = (this.#holds.get(view.id) ?? 1) - 1
      if (left === 0) this.#holds.delete(view.id)
      else this.#holds.set(view.id, left)
    }
    return { ...view, [Symbol.dispose]: release }
  }

  lowerDirs(imageId: string): readonly string[] {
    const found = this.#index.byId(imageId)
    if (!found) throw new CodedError('NotFound', `image ${JSON.stringify(imageId)}: there is none`)
    return found.lowerDirs
  }

  /** Resolves when no garbage is being collected, nor due now. */
  async settled(): Promise<void> {
    await this.#garbage.settled()
    await this.#changes.ended()
  }

  /** Ends pulls under way. What they leave is collected at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
    await this.#pulls[Symbol.asyncDispose]()
    await this.#garbage[Symbol.asyncDispose]()
    await this.#changes.ended()
  }

  async #open(): Promise<void> {
    const { state, skopeo, storageTool } = this.#options
    const { libc, logger } = this.#deps
    const orphans = await endOrphanedTools(this.#graph, [skopeo, storageTool], libc)
    if (orphans > 0) logger.warn({ orphans }, 'ended pulls that an earlier daemon has left')
    await makeDirectory(this.#graph)
    await chmod(this.#graph, 0o700)
    for (const directory of [this.#scratchDir, this.#authDir]) {
      await removeTree(directory)
      await makeDirectory(directory)
    }
    const run = join(state, 'images')
    await makeDirectory(run)
    await this.#writeStorageConf(join(state, 'images-storage.conf'), storageConf({ graph: this.#graph, run }))
    try {
      await this.#index.reload()
    } catch (error) {
      logger.error({ error: errorMessage(error) }, 'image store cannot be read: there are no images')
      return
    }
    await this.#reserve.fill()
    this.#garbage.want(0)
  }

  async #join(
    key: string,
    signal: AbortSignal,
    pull: (ended: AbortSignal, track: PullTrack) => Promise<string>,
    tell?: TellProgress,
  ): Promise<string> {
    const work = async (ended: AbortSignal): Promise<string> => {
      const track = new PullTrack()
      this.#tracks.set(key, track)
      try {
        return await pull(ended, track)
      } finally {
        if (this.#tracks.get(key) === track) this.#tracks.delete(key)
        this.#usage.forget()
      }
    }
    const pulled = this.#pulls.join(key, work, signal)
    using _watching = tell ? this.#tracks.get(key)?.watch(tell) : undefined
    return await pulled
  }

  /** A full disk keeps images from being pulled and removed, not pods from being looked after. */
  async #writeStorageConf(path: string, text: string): Promise<void> {
    try {
      if ((await readTextIfAny(path)) !== text) await writeFileAtomic(path, text)
    } catch (error) {
      this.#deps.logger.error({ error: errorMessage(error) }, 'image store cannot be used before there is space again')
    }
  }

  async #remove(image: string): Promise<void> {
    const found = this.#index.find(image)
    if (!found) return
    this.#checkUnused(image, found)
    // Whoever looks for it from now on comes too late.
    this.#index.hide(found)
    this.#puller.noteRemoval()
    try {
      using limit = deadline(`remove image ${image}`, this.#options.pullTimeoutMs, this.#closing.signal)
      await this.#reserve.spendOn(() => this.#tools.deleteImage(found.stored.id, limit.signal))
      this.#deps.logger.info({ image: found.stored.names, id: found.stored.id }, 'image removed')
    } catch (error) {
      await this.#index.reload()
      if (this.#index.byId(found.stored.id)) throw error
    } finally {
      this.#usage.forget()
      await this.#index.reload()
      this.#garbage.want('later')
      this.#garbage.startIfIdle()
    }
  }

  #checkUnused(image: string, { view }: IndexedImage): void {
    const refuse = (why: string): CodedError =>
      new CodedError('FailedPrecondition', `remove image ${JSON.stringify(image)}: ${why}`)
    if (view.pinned) throw refuse('it is pinned: the pods of this node are made of it')
    const [container] = this.#deps.usedBy(view.id)
    if (container !== undefined) throw refuse(`container ${container} uses it`)
    if (this.#holds.has(view.id)) throw refuse('a container that is being made uses it')
  }

  get #scratchDir(): string {
    return join(this.#graph, 'tmp')
  }

  get #authDir(): string {
    return join(this.#options.state, 'images-auth')
  }
}
