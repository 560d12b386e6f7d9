import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { deadline } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { removeTree, writeFileAtomic } from '../host/files.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Credentials } from './credentials.ts'
import { guardSpace } from './free-space.ts'
import type { GarbageCollector } from './garbage-collector.ts'
import type { ImageIndex } from './image-index.ts'
import type { ImageSource, ImageTools, PullAccess, Resolved } from './image-tools.ts'
import type { PullTrack } from './pull-progress.ts'
import { stagingName } from './reference.ts'
import { type Gate, type Queue, Queues, Slots } from './turns.ts'

export interface ImagePullerOptions {
  /** Where the layer store lies. */
  readonly graph: string
  /** Directories for files that live as long as a pull: data on the way, and credentials. */
  readonly scratchDir: string
  readonly authDir: string
  readonly maxConcurrent: number
  /** One pull with all that belongs to it. */
  readonly timeoutMs: number
  /** A pull that leaves less on the disk is ended. */
  readonly minFreeBytes: number
  /** Ends also what is cleared up. */
  readonly closing: AbortSignal
}

export interface ImagePullerDeps {
  readonly tools: ImageTools
  readonly index: ImageIndex
  readonly gate: Gate
  readonly changes: Queue
  readonly garbage: GarbageCollector
  readonly logger: Logger
}

/** What is pulled. */
export interface Pull {
  readonly source: ImageSource
  /** The names that it gets, by the digest that its source resolves to. */
  readonly namesOf: (digest: string) => readonly [string, ...string[]]
  readonly credentials: Credentials
  readonly track: PullTrack
}

/**
 * Brings images into the store.
 *
 * An image is copied under a name that nobody can ask for, checked, written to the disk, and then given its real names in
 * one step: it is there as a whole or not at all, whenever and by whatever the daemon is ended. What is there already, by
 * the digest of its configuration, is not copied again and only gets the name.
 */
export class ImagePuller {
  readonly #options: ImagePullerOptions
  readonly #deps: ImagePullerDeps
  readonly #slots: Slots
  /** Copies of one image: two at once would disturb each other. */
  readonly #copies = new Queues()
  /** How many images have been removed: a pull may have counted on their layers. */
  #removals = 0

  constructor(options: ImagePullerOptions, deps: ImagePullerDeps) {
    this.#options = options
    this.#deps = deps
    this.#slots = new Slots(options.maxConcurrent)
  }

  /**
   * Pulls an image and returns its id.
   * @param ended cancels it; it returns when nothing of it runs any more.
   */
  async pull(pull: Pull, ended: AbortSignal): Promise<string> {
    const { gate, garbage } = this.#deps
    using limit = deadline(`pull ${pull.source.what}`, this.#options.timeoutMs, ended)
    using _slot = await this.#slots.take(limit.signal)
    try {
      using _inside = await gate.enter(limit.signal)
      using space = await guardSpace(this.#options.graph, this.#options.minFreeBytes, limit.signal)
      return await this.#withAccess(pull.credentials, (access) => this.#bring(pull, access, space.signal))
    } catch (error) {
      // A full disk cannot wait for the next try.
      garbage.want(errorCode(error) === 'ResourceExhausted' ? 0 : 'later')
      throw error
    } finally {
      garbage.startIfIdle()
    }
  }

  /** An image was removed, and with it perhaps layers that a pull under way counts on. */
  noteRemoval(): void {
    this.#removals++
  }

  async #withAccess<T>(credentials: Credentials, work: (access: PullAccess) => Promise<T>): Promise<T> {
    const id = randomBytes(8).toString('hex')
    const scratch = join(this.#options.scratchDir, id)
    const authFile = credentials.authFile === '' ? '' : join(this.#options.authDir, `${id}.json`)
    try {
      await mkdir(scratch, { mode: 0o700 })
      if (authFile !== '') await writeFileAtomic(authFile, credentials.authFile, 0o600)
      return await work({ scratch, authFile, secrets: credentials.secrets })
    } finally {
      if (authFile !== '') await removeTree(authFile)
      await removeTree(scratch)
    }
  }

  /** Makes sure that the image is there and has its names. */
  async #bring({ source, namesOf, track }: Pull, access: PullAccess, signal: AbortSignal): Promise<string> {
    const { tools, index, changes } = this.#deps
    const resolved = await tools.resolve(source, access, signal)
    const { digest, id } = resolved
    const names = namesOf(digest)
    // Pinned to what was resolved: a tag that moves meanwhile changes nothing.
    const from = source.from.startsWith('docker://') ? { ...source, from: `docker://${names[0]}` } : source
    const copy = async (): Promise<void> => {
      signal.throwIfAborted()
      // Who was here before may have brought it, from wherever: an id is a digest.
      if (index.byId(id)) return changes.run(async () => await this.#addNames(id, names, signal))
      const staging = stagingName(randomBytes(16).toString('hex'))
      const totalBytes = track.isWatched ? await this.#missingBytes(from, resolved, access, signal) : null
      {
        using _download = track.download(access.scratch, totalBytes)
        await tools.copy(from, staging, access, signal)
      }
      track.store()
      await changes.run(async () => await this.#adopt(source.what, staging, id, names, signal))
    }
    for (let isFirst = true; ; isFirst = false) {
      const removals = this.#removals
      try {
        await this.#copies.run(id, copy)
        return id
      } catch (error) {
        // A layer that it found there may have gone with another image; then it is fetched.
        if (!isFirst || this.#removals === removals || signal.aborted) throw error
      }
    }
  }

  /** How much of an image is to be fetched, or null. Only somebody's display misses it, so that it fails no pull. */
  async #missingBytes(
    from: ImageSource,
    resolved: Resolved,
    access: PullAccess,
    signal: AbortSignal,
  ): Promise<number | null> {
    try {
      const layers = await this.#deps.tools.layers(from, resolved, access, signal)
      if (layers === undefined) return null
      const here = [...this.#deps.index.records.layers.values()].filter(({ createdAtMs }) => createdAtMs > 0)
      const missing = new Map(layers.map(({ digest, sizeBytes }) => [digest, sizeBytes]))
      for (const { blobDigest } of here) missing.delete(blobDigest)
      return [...missing.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0)
    } catch (error) {
      this.#deps.logger.debug({ image: from.what, error: errorMessage(error) }, 'size of image is not known')
      return null
    }
  }

  async #addNames(id: string, names: readonly string[], signal: AbortSignal): Promise<void> {
    const found = this.#deps.index.byId(id)
    if (!found) throw new CodedError('Aborted', `pull image ${id}: it was removed meanwhile`)
    if (names.every((name) => found.stored.names.includes(name))) return
    try {
      await this.#deps.tools.setNames(found.stored.id, [...new Set([...found.stored.names, ...names])], signal)
    } finally {
      await this.#deps.index.reload()
    }
  }

  /** Makes an image of what was copied, or removes it. */
  async #adopt(
    what: string,
    staging: string,
    id: string,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    await this.#deps.index.reload()
    const { records } = this.#deps.index
    const stored = records.images.find((image) => image.names.includes(staging))
    if (!stored) throw new CodedError('Aborted', `pull ${what}: it was removed meanwhile`)
    const others = stored.names.filter((name) => name !== staging)
    try {
      if (`sha256:${stored.id}` !== id)
        throw new CodedError('Unavailable', 'its registry has two answers to one question')
      await this.#deps.index.read(records, stored)
      await this.#deps.tools.sync(signal)
      await this.#deps.tools.setNames(stored.id, [...new Set([...others, ...names])], signal)
    } catch (error) {
      await this.#discard(stored.id, others)
      throw new CodedError(errorCode(error), `pull ${what}: ${errorMessage(error)}`)
    } finally {
      await this.#deps.index.reload()
    }
    this.#deps.logger.info({ image: what, id }, 'image pulled')
  }

  /** Takes back a copy that is not to become an image. */
  async #discard(id: string, others: readonly string[]): Promise<void> {
    try {
      if (others.length === 0) await this.#deps.tools.deleteImage(id, this.#options.closing)
      else await this.#deps.tools.setNames(id, others, this.#options.closing)
    } catch (error) {
      // Nobody sees it under the name that it has, and the next collection removes it.
      this.#deps.logger.warn({ id, error: errorMessage(error) }, 'unfinished image is left for later')
    }
  }
}
