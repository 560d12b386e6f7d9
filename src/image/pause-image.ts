import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { makeDirectory } from '../host/files.ts'
import { type ImageProgram, imageProgram } from './image-config.ts'
import type { ImageStore } from './image-store.ts'
import type { ImageView } from './types.ts'

export interface PauseImageOptions {
  /** A registry reference (`registry.k8s.io/pause:3.10`), or any source of skopeo with its transport (`oci:/path:tag`). */
  readonly reference: string
  /** For the directories that the image may lack. Nobody else writes there. */
  readonly directory: string
  /** Where its root file system is mounted. */
  readonly rootfsPath: string
  /** For one pull with all that belongs to it. */
  readonly pullTimeoutMs: number
}

export interface PauseImageDeps {
  readonly images: Pick<ImageStore, 'pull' | 'load' | 'get' | 'hold' | 'lowerDirs'>
  /** Mounts layers, the topmost first, read-only. The directory is there. */
  readonly mountReadonly: (lowerDirs: readonly string[], path: string) => Promise<void>
  /** What is not mounted is success. */
  readonly unmount: (path: string) => Promise<void>
}

/** What is run of the image, and where it is. */
export interface PauseImageProgram extends ImageProgram {
  readonly rootfsPath: string
}

/** Mount points that OCI runtimes want to find in a root file system that they may not write to. */
const MOUNT_POINTS = ['proc', 'dev', 'sys']

const TRANSPORT = /^(?:oci|oci-archive|docker-archive|docker-daemon|dir|containers-storage):/

/** The name in the image store of the image that a configuration calls so: that is the one to pin. */
export function pauseImageName(reference: string): string {
  if (!TRANSPORT.test(reference)) return reference.replace(/^docker:\/\//, '')
  return `localhost/pause:${createHash('sha256').update(reference).digest('hex').slice(0, 16)}`
}

/**
 * The root file system of pause containers: a read-only view of an image in the image store. It is pulled once and held
 * for as long as the daemon runs; pods then start without a registry. The mount ends with the daemon, and pods that run
 * do without it: each has its own.
 */
export class PauseImage implements AsyncDisposable {
  readonly #options: PauseImageOptions
  readonly #deps: PauseImageDeps
  readonly #name: string
  readonly #closing = new AbortController()
  #held: (ImageView & Disposable) | undefined
  #program: PauseImageProgram | undefined
  #pulling: Promise<void> | undefined

  constructor(options: PauseImageOptions, deps: PauseImageDeps) {
    this.#options = options
    this.#deps = deps
    this.#name = pauseImageName(options.reference)
  }

  /**
   * Takes up what an earlier daemon has pulled, and removes the mount that a killed one has left. Called once, before all
   * else. An image that is there and cannot be run is told when a pod wants it.
   */
  async load(): Promise<void> {
    const { directory, rootfsPath } = this.#options
    await this.#deps.unmount(rootfsPath)
    await makeDirectory(rootfsPath, 0o755)
    for (const point of MOUNT_POINTS)
      await mkdir(join(directory, 'mount-points', point), { recursive: true, mode: 0o755 })
    if (this.#deps.images.get(this.#name)) await this.ensure(this.#closing.signal).catch(() => undefined)
  }

  /**
   * Makes sure that the image is there. Callers share one pull, which goes on when one of them gives up.
   *
   * @throws CodedError `Unavailable` when it cannot be pulled, `FailedPrecondition` when a program for that is missing
   * or the image is not one to run, `DeadlineExceeded`. Or the reason of the signal.
   */
  async ensure(signal: AbortSignal): Promise<void> {
    if (this.#program) return
    this.#pulling ??= this.#pull().finally(() => {
      this.#pulling = undefined
    })
    await waitFor(this.#pulling, signal)
  }

  /** @throws CodedError `FailedPrecondition` when it was not pulled yet. */
  program(): PauseImageProgram {
    if (this.#program) return this.#program
    throw new CodedError('FailedPrecondition', `pause image ${this.#options.reference}: not pulled yet`)
  }

  /** Ends a pull that is under way, and the mount. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
    await this.#pulling?.catch(() => undefined)
    if (this.#program) await this.#deps.unmount(this.#options.rootfsPath)
    this.#program = undefined
    this.#held?.[Symbol.dispose]()
  }

  async #pull(): Promise<void> {
    const { reference, pullTimeoutMs } = this.#options
    const { images } = this.#deps
    using limit = deadline(`pull pause image ${reference}`, pullTimeoutMs, this.#closing.signal)
    try {
      // One that is there needs no registry, also where its tag has moved on since.
      const id = images.get(this.#name)?.id ?? (await this.#bring(limit.signal))
      await this.#mount(id)
    } catch (cause) {
      throw new CodedError(errorCode(cause), `pull pause image ${reference}: ${errorMessage(cause)}`, { cause })
    }
  }

  async #bring(signal: AbortSignal): Promise<string> {
    const { reference } = this.#options
    if (TRANSPORT.test(reference)) return this.#deps.images.load({ source: reference, name: this.#name }, signal)
    return this.#deps.images.pull({ image: this.#name, auth: null }, signal)
  }

  async #mount(id: string): Promise<void> {
    const { directory, rootfsPath } = this.#options
    const held = this.#deps.images.hold(id)
    try {
      const program = imageProgram(held.spec)
      // Above all layers: what the image has under these names cannot lead a runtime elsewhere.
      const lowerDirs = [join(directory, 'mount-points'), ...this.#deps.images.lowerDirs(id)]
      await this.#deps.mountReadonly(lowerDirs, rootfsPath)
      this.#held = held
      this.#program = { ...program, rootfsPath }
    } catch (error) {
      held[Symbol.dispose]()
      throw error
    }
  }
}
