import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'
import type { ImageTools } from './image-tools.ts'
import { isStaging } from './reference.ts'
import { readRecords, type StoreRecords } from './store-records.ts'

/** So many layers are named to one program. */
const BATCH = 100
const ID = /^[0-9a-f]{64}$/

/** What a collection has removed, and what it has left for later. */
export interface Collected {
  readonly images: number
  readonly layers: number
  readonly files: number
  /** Layers of an interrupted pull that are kept, so that a repeated one finds them. */
  readonly kept: number
}

/**
 * Removes from the store what belongs to no image: unfinished images, layers that nobody stands on, and whatever a killed
 * program has left beside the records. Layers made after `newestMs` (Unix time) are kept, and so is what is mounted.
 * Nobody may be pulling meanwhile.
 * @throws CodedError when the store cannot be read: nothing is removed then.
 */
export async function collectGarbage(
  graph: string,
  tools: ImageTools,
  newestMs: number,
  signal: AbortSignal,
): Promise<Collected> {
  const found = await readRecords(graph)
  // Nobody but a killed tool has mounted anything in there.
  const left = mountPoints(await readMounts(), join(graph, 'overlay'))
  if (left.length > 0) await tools.unmount(left, signal)
  const images = await removeUnfinished(found, tools, signal)
  const mounted = await readMounts()
  const isMounted = await mountedLayers(graph, mounted)
  const records = await readRecords(graph)
  const unused = unusedLayers(records, isMounted)
  const old = oldLayers(records, unused, newestMs)
  for (let at = 0; at < old.length; at += BATCH) await tools.deleteLayers(old.slice(at, at + BATCH), signal)
  const files = await strayFiles(graph, await readRecords(graph), isMounted)
  for (let at = 0; at < files.length; at += BATCH) await tools.removeDeep(files.slice(at, at + BATCH), signal)
  return { images, layers: old.length, files: files.length, kept: unused.length - old.length }
}

async function readMounts(): Promise<string> {
  return readFile('/proc/self/mountinfo', 'utf8')
}

/** What is mounted below a directory, the last first. */
function mountPoints(mountinfo: string, directory: string): string[] {
  const paths = mountinfo.split('\n').map((line) => line.split(' ')[4] ?? '')
  return paths.filter((path) => path.startsWith(`${directory}/`)).toReversed()
}

/** Images that no finished pull has named. */
async function removeUnfinished({ images }: StoreRecords, tools: ImageTools, signal: AbortSignal): Promise<number> {
  let removed = 0
  for (const { id, names } of images) {
    const real = names.filter((name) => !isStaging(name))
    if (real.length === 0) {
      await tools.deleteImage(id, signal)
      removed++
    } else if (real.length < names.length) await tools.setNames(id, real, signal)
  }
  return removed
}

/** Layers that no image stands on, each before the one below it. */
function unusedLayers({ images, layers }: StoreRecords, isMounted: (id: string) => boolean): string[] {
  const used = new Set<string>()
  const tops = [...images.map(({ layer }) => layer), ...[...layers.keys()].filter(isMounted)]
  for (const top of tops) {
    for (let id = top; id !== '' && !used.has(id); id = layers.get(id)?.parent ?? '') used.add(id)
  }
  const depth = (id: string, seen = 0): number => {
    const parent = layers.get(id)?.parent ?? ''
    return parent === '' || seen > layers.size ? 0 : 1 + depth(parent, seen + 1)
  }
  const unused = [...layers.keys()].filter((id) => !used.has(id))
  return unused.toSorted((a, b) => depth(b) - depth(a))
}

/** Those of them that may go: neither new nor below one that is. */
function oldLayers({ layers }: StoreRecords, unused: readonly string[], newestMs: number): string[] {
  const kept = new Set<string>()
  for (const id of unused) {
    const layer = layers.get(id)
    if (layer && (layer.createdAtMs > newestMs || kept.has(id))) {
      kept.add(id)
      kept.add(layer.parent)
    }
  }
  return unused.filter((id) => !kept.has(id))
}

/** Nothing that runs may be hurt, whatever the records say: a mount shows the name or the link of its layers. */
async function mountedLayers(graph: string, mounted: string): Promise<(id: string) => boolean> {
  const found = new Set<string>()
  for (const link of await names(join(graph, 'overlay/l'))) {
    if (!mounted.includes(link)) continue
    const id = (await readlink(join(graph, 'overlay/l', link))).split('/')[1]
    if (id !== undefined) found.add(id)
  }
  return (id) => found.has(id) || mounted.includes(id)
}

/** What lies in the store's directories without being on record. */
async function strayFiles(
  graph: string,
  { images, layers }: StoreRecords,
  isMounted: (id: string) => boolean,
): Promise<string[]> {
  const isImage = new Set(images.map(({ id }) => id))
  const isStray = (id: string): boolean => ID.test(id) && !layers.has(id) && !isMounted(id)
  const stray: string[] = []
  const add = async (directory: string, test: (name: string) => boolean | Promise<boolean>): Promise<void> => {
    for (const name of await names(join(graph, directory))) {
      if (await test(name)) stray.push(join(graph, directory, name))
    }
  }
  // Beside layers and links the tools make only directories to try out what the kernel can.
  await add('overlay', (name) => isStray(name) || /^[a-z-]+-check\d+$|^compat\d+$/.test(name))
  await add('overlay/l', async (link) => {
    const id = (await readlink(join(graph, 'overlay/l', link)).catch(() => '')).split('/')[1] ?? ''
    return isStray(id)
  })
  await add('overlay-layers', (name) => name.startsWith('.tmp-') || isStray(name.replace(/\.tar-split\.gz$/, '')))
  await add('overlay-images', (name) => name.startsWith('.tmp-') || (ID.test(name) && !isImage.has(name)))
  return stray
}

async function names(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
