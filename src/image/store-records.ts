import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorMessage } from '../core/errors.ts'
import { readTextIfAny } from '../host/files.ts'

/** An image as the layer store has it on record. */
export interface StoredImage {
  /** 64 hex digits: the digest of its configuration. */
  readonly id: string
  readonly names: readonly string[]
  /** The topmost layer, or `''`. */
  readonly layer: string
  /** The sizes of its manifests, its configuration, … by their names. */
  readonly bigData: ReadonlyMap<string, number>
}

export interface StoredLayer {
  readonly id: string
  /** The layer below, or `''`. */
  readonly parent: string
  /** The digest of the uncompressed archive it was made of. */
  readonly diffId: string
  /** The digest of that archive as it came, `sha256:…` or `''`. */
  readonly blobDigest: string
  readonly sizeBytes: number
  /** Unix time; 0 for one that was never finished. */
  readonly createdAtMs: number
}

export interface StoreRecords {
  readonly images: readonly StoredImage[]
  readonly layers: ReadonlyMap<string, StoredLayer>
}

const ID = /^[0-9a-f]{64}$/

/**
 * Reads what is in a layer store (containers/storage, driver overlay). Each file is replaced as a whole by whoever writes
 * it. A store that is not there yet is empty.
 * @throws CodedError `DataLoss` for a file that cannot be read.
 */
export async function readRecords(graph: string): Promise<StoreRecords> {
  // An image is put on record after its layers.
  const images = (await readList(join(graph, 'overlay-images/images.json'))).map(toImage)
  const layers = (await readList(join(graph, 'overlay-layers/layers.json'))).map(toLayer)
  return {
    images: images.filter(({ id }) => ID.test(id)),
    layers: new Map(layers.filter(({ id }) => ID.test(id)).map((layer) => [layer.id, layer])),
  }
}

/** The layers of an image, the topmost first. @throws CodedError `DataLoss` when one is missing. */
export function layersOf({ layers }: StoreRecords, image: StoredImage): StoredLayer[] {
  const chain: StoredLayer[] = []
  for (let id = image.layer; id !== ''; ) {
    const layer = layers.get(id)
    if (!layer || chain.length > layers.size)
      throw new CodedError('DataLoss', `image ${image.id}: layer ${id} is missing`)
    chain.push(layer)
    id = layer.parent
  }
  return chain
}

/** One of the documents of an image. @throws CodedError `DataLoss` when it cannot be read. */
export async function readBigData(graph: string, image: StoredImage, name: string): Promise<unknown> {
  // As containers/storage names the files: what is not [a-z0-9.] is kept from the file system.
  const file = /^[a-z0-9.]+$/.test(name) ? name : `=${Buffer.from(name).toString('base64')}`
  try {
    return JSON.parse(await readFile(join(graph, 'overlay-images', image.id, file), 'utf8'))
  } catch (cause) {
    throw new CodedError('DataLoss', `read ${name} of image ${image.id}: ${errorMessage(cause)}`, { cause })
  }
}

type Json = Readonly<Record<string, unknown>>

async function readList(path: string): Promise<Json[]> {
  const text = await readTextIfAny(path)
  if (text === undefined || text.trim() === '') return []
  try {
    const list: unknown = JSON.parse(text)
    if (!Array.isArray(list)) throw new Error('not a list')
    return list.filter((item) => typeof item === 'object' && item !== null) as Json[]
  } catch (cause) {
    throw new CodedError('DataLoss', `read image store ${path}: ${errorMessage(cause)}`, { cause })
  }
}

function toImage(json: Json): StoredImage {
  const names = json['names']
  const sizes = Object.entries((json['big-data-sizes'] ?? {}) as Record<string, unknown>)
  return {
    id: textOf(json['id']),
    names: Array.isArray(names) ? names.map(textOf) : [],
    layer: textOf(json['layer']),
    bigData: new Map(sizes.map(([name, size]) => [name, numberOf(size)])),
  }
}

function toLayer(json: Json): StoredLayer {
  const isIncomplete = (json['flags'] as Json | null | undefined)?.['incomplete'] === true
  return {
    id: textOf(json['id']),
    parent: textOf(json['parent']),
    diffId: textOf(json['diff-digest']),
    blobDigest: textOf(json['compressed-diff-digest']),
    sizeBytes: numberOf(json['diff-size']),
    createdAtMs: isIncomplete ? 0 : Date.parse(textOf(json['created'])) || 0,
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function numberOf(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0
}
