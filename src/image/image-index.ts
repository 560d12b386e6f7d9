import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Logger } from '../telemetry/logger.ts'
import { isStaging, tryReference } from './reference.ts'
import { diffIdsOf, toRunConfig } from './run-config.ts'
import { layersOf, readBigData, readRecords, type StoredImage, type StoreRecords } from './store-records.ts'
import type { ImageView } from './types.ts'

/** What the kernel and a page of mount options hold. */
const MAX_LAYERS = 128
/** As short as ids are shown. */
const MIN_PREFIX = 12

export interface IndexedImage {
  readonly stored: StoredImage
  readonly view: ImageView
  /** See `ImageRootfs.lowerDirs`. */
  readonly lowerDirs: readonly string[]
}

/** What is in the store, in memory: read again after each change, asked for without waiting. */
export class ImageIndex {
  readonly #graph: string
  readonly #pinned: ReadonlySet<string>
  readonly #logger: Logger
  #byId = new Map<string, IndexedImage>()
  #byName = new Map<string, IndexedImage>()
  #records: StoreRecords = { images: [], layers: new Map() }
  /** The short names of layers never change. */
  readonly #links = new Map<string, string>()

  /** @param options.pinned references whose images are pinned. */
  constructor(
    options: { readonly graph: string; readonly pinned: readonly string[] },
    deps: { readonly logger: Logger },
  ) {
    this.#graph = options.graph
    this.#pinned = new Set(options.pinned.map((text) => tryReference(text)?.name ?? text))
    this.#logger = deps.logger
  }

  /** As it was read last. */
  get records(): StoreRecords {
    return this.#records
  }

  /**
   * Reads the store again. An image that cannot be used is left out and told in the log: pulling it again mends it.
   * @throws CodedError `DataLoss` when the store cannot be read; nothing changes then.
   */
  async reload(): Promise<void> {
    const records = await readRecords(this.#graph)
    const byId = new Map<string, IndexedImage>()
    for (const stored of records.images) {
      if (stored.names.every(isStaging)) continue
      try {
        byId.set(stored.id, await this.read(records, stored))
      } catch (error) {
        this.#logger.warn({ image: stored.id, names: stored.names, error: errorMessage(error) }, 'image cannot be used')
      }
    }
    const named = [...byId.values()].flatMap((image) => image.stored.names.map((name) => [name, image] as const))
    this.#byName = new Map(named)
    this.#byId = byId
    this.#records = records
    for (const id of this.#links.keys()) if (!records.layers.has(id)) this.#links.delete(id)
  }

  /**
   * All that is known of an image.
   * @throws CodedError `FailedPrecondition` when it cannot be run: not the layers that its configuration names, too many
   * of them, a configuration against the specification; `DataLoss` when parts are missing.
   */
  async read(records: StoreRecords, stored: StoredImage): Promise<IndexedImage> {
    const layers = layersOf(records, stored)
    const spec = this.#byId.get(stored.id)?.view.spec ?? (await readBigData(this.#graph, stored, `sha256:${stored.id}`))
    if (layers.length > MAX_LAYERS) {
      throw new CodedError('FailedPrecondition', `it has ${layers.length} layers, more than ${MAX_LAYERS}`)
    }
    // An id is the digest of a configuration: it must not stand for layers that somebody else has put beside it.
    const diffIds = layers.map(({ diffId }) => diffId).toReversed()
    if (diffIds.join() !== diffIdsOf(spec).join()) {
      throw new CodedError('FailedPrecondition', 'its layers are not those that its configuration names')
    }
    const lowerDirs: string[] = []
    for (const { id } of layers) lowerDirs.push(join(this.#graph, 'overlay/l', await this.#link(id)))
    const sizes = [...layers.map((layer) => layer.sizeBytes), ...stored.bigData.values()]
    const references = stored.names.flatMap((name) => tryReference(name) ?? [])
    const view = {
      id: `sha256:${stored.id}`,
      repoTags: references.flatMap(({ tag, name }) => (tag === '' ? [] : name)).toSorted(),
      repoDigests: references.flatMap(({ digest, name }) => (digest === '' ? [] : name)).toSorted(),
      sizeBytes: BigInt(sizes.reduce((sum, size) => sum + size, 0)),
      pinned: stored.names.some((name) => this.#pinned.has(name)),
      config: toRunConfig(spec),
      spec,
    }
    return { stored, view, lowerDirs }
  }

  /** By id, name, or the beginning of an id, in this order. */
  find(image: string): IndexedImage | undefined {
    const hex = image.startsWith('sha256:') ? image.slice('sha256:'.length) : image
    const byId = this.#byId.get(hex)
    if (byId) return byId
    const reference = tryReference(image)
    const byName = reference && this.#byName.get(reference.name)
    if (byName) return byName
    if (hex.length < MIN_PREFIX || !/^[0-9a-f]+$/.test(hex)) return undefined
    const found = [...this.#byId.values()].filter(({ stored }) => stored.id.startsWith(hex))
    return found.length === 1 ? found[0] : undefined
  }

  byId(id: string): IndexedImage | undefined {
    return this.#byId.get(id.replace(/^sha256:/, ''))
  }

  byName(name: string): IndexedImage | undefined {
    return this.#byName.get(name)
  }

  all(): IndexedImage[] {
    return [...this.#byId.values()].toSorted((a, b) => (a.stored.id < b.stored.id ? -1 : 1))
  }

  /** Nobody finds it any more, until the store is read again. */
  hide({ stored }: IndexedImage): void {
    this.#byId.delete(stored.id)
    for (const name of stored.names) this.#byName.delete(name)
  }

  async #link(layer: string): Promise<string> {
    const known = this.#links.get(layer)
    if (known !== undefined) return known
    const path = join(this.#graph, 'overlay', layer, 'link')
    const link = await readFile(path, 'utf8').catch((cause: unknown) => {
      throw new CodedError('DataLoss', `read ${path}: ${errorMessage(cause)}`, { cause })
    })
    if (!/^[A-Z0-9]{1,64}$/.test(link)) throw new CodedError('DataLoss', `read ${path}: not the name of a link`)
    this.#links.set(layer, link)
    return link
  }
}
