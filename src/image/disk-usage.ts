import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { RunProgram } from '../host/programs/outcome.ts'
import type { FilesystemUsage } from './types.ts'

const MAX_AGE_MS = 10_000
const TIMEOUT_MS = 120_000
/** So many directories are named to one program. */
const BATCH = 500

interface Usage {
  readonly bytes: bigint
  readonly inodes: bigint
}

export interface BothUsages {
  readonly images: FilesystemUsage
  readonly containers: FilesystemUsage
}

/** How much of the disk images and containers take: looked for at most every ten seconds, once for all who ask. */
export class DiskUsage {
  readonly #graph: string
  readonly #containersDir: string
  readonly #layers: () => Iterable<string>
  readonly #run: RunProgram
  /** Layers do not change. */
  readonly #ofLayer = new Map<string, Usage>()
  #last: BothUsages | undefined
  #lastAt = Number.NEGATIVE_INFINITY
  #looking: Promise<BothUsages> | undefined

  constructor(
    options: { readonly graph: string; readonly containersDir: string },
    deps: { readonly layers: () => Iterable<string>; readonly run: RunProgram },
  ) {
    this.#graph = options.graph
    this.#containersDir = options.containersDir
    this.#layers = deps.layers
    this.#run = deps.run
  }

  async get(signal: AbortSignal): Promise<BothUsages> {
    if (this.#last && performance.now() - this.#lastAt < MAX_AGE_MS) return this.#last
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return waitFor(this.#looking, signal)
  }

  /** What was found is not true any more. */
  forget(): void {
    this.#last = undefined
  }

  async #look(): Promise<BothUsages> {
    const layers = new Set(this.#layers())
    for (const id of this.#ofLayer.keys()) if (!layers.has(id)) this.#ofLayer.delete(id)
    const path = (id: string): string => join(this.#graph, 'overlay', id)
    const fresh = [...layers].filter((id) => !this.#ofLayer.has(id))
    const found = await this.#usageOf(fresh.map(path))
    for (const id of fresh) {
      const usage = found.get(path(id))
      if (usage) this.#ofLayer.set(id, usage)
    }
    const records = ['overlay-images', 'overlay-layers', 'tmp'].map((name) => join(this.#graph, name))
    const others = await this.#usageOf([...records, this.#containersDir])
    const atNs = nowNs()
    const sum = (usages: Iterable<Usage | undefined>, mountpoint: string): FilesystemUsage => {
      const there = [...usages].filter((usage) => usage !== undefined)
      const usedBytes = there.reduce((total, { bytes }) => total + bytes, 0n)
      return { mountpoint, atNs, usedBytes, inodesUsed: there.reduce((total, { inodes }) => total + inodes, 0n) }
    }
    const images = sum([...this.#ofLayer.values(), ...records.map((record) => others.get(record))], this.#graph)
    this.#last = { images, containers: sum([others.get(this.#containersDir)], this.#containersDir) }
    this.#lastAt = performance.now()
    return this.#last
  }

  async #usageOf(paths: readonly string[]): Promise<Map<string, Usage>> {
    const there: string[] = []
    for (const path of paths) if (await isThere(path)) there.push(path)
    const usages = new Map<string, Usage>()
    for (let at = 0; at < there.length; at += BATCH) {
      const batch = there.slice(at, at + BATCH)
      const bytes = await this.#du(['--block-size=1'], batch)
      const inodes = await this.#du(['--inodes'], batch)
      for (const path of batch) usages.set(path, { bytes: bytes.get(path) ?? 0n, inodes: inodes.get(path) ?? 0n })
    }
    return usages
  }

  /** What is mounted in a directory (the root file systems of containers) does not count as its own. */
  async #du(options: readonly string[], paths: readonly string[]): Promise<Map<string, bigint>> {
    const args = ['-n', '19', '/usr/bin/du', '--summarize', '--one-file-system', ...options, '--', ...paths]
    try {
      const { stdout } = await this.#run('/usr/bin/nice', args, { timeoutMs: TIMEOUT_MS })
      // Its exit code says no more than that something has vanished while it looked.
      const lines = stdout.split('\n').flatMap((line) => {
        const [, count, path] = /^(\d+)\t(.*)$/.exec(line) ?? []
        return count !== undefined && path !== undefined ? [[path, BigInt(count)] as const] : []
      })
      return new Map(lines)
    } catch (error) {
      throw new CodedError('Unavailable', `measure the disk usage of ${this.#graph}: ${errorMessage(error)}`)
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
