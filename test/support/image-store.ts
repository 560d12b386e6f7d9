import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { loadLibc } from '../../src/host/libc.ts'
import { Programs } from '../../src/host/programs/programs.ts'
import { ImageStore, type ImageStoreDeps, type ImageStoreOptions } from '../../src/image/image-store.ts'
import { mounts } from './machine.ts'
import type { Registry } from './registry.ts'

/** Debian's packages skopeo and containers-storage. */
export const IMAGE_TOOLS = { skopeo: '/usr/bin/skopeo', storageTool: '/usr/bin/containers-storage' } as const

/** A directory for one store, and the store as often as it is opened there. */
export class StoreUnderTest implements AsyncDisposable {
  readonly dir: string
  readonly logLines: string[] = []
  readonly #programs = new Programs()
  readonly #registries: Registry[] = []

  private constructor(dir: string) {
    this.dir = dir
  }

  /** @param registries may be asked without TLS. */
  static async make(...registries: readonly Registry[]): Promise<StoreUnderTest> {
    const made = new StoreUnderTest(await mkdtemp(join(tmpdir(), 'sbx-images-')))
    made.#registries.push(...registries)
    for (const name of ['root', 'state']) await mkdir(join(made.dir, name))
    await made.writeRegistries()
    return made
  }

  get graph(): string {
    return join(this.dir, 'root/images')
  }

  /** @param more goes to the end of registries.conf. */
  async writeRegistries(more = ''): Promise<void> {
    const tables = this.#registries
      .filter(({ tls }) => !tls)
      .map(({ address }) => `[[registry]]\nlocation = "${address}"\ninsecure = true\n`)
    await writeFile(join(this.dir, 'registries.conf'), `${tables.join('')}${more}`)
  }

  async open(options: Partial<ImageStoreOptions> = {}, deps: Partial<ImageStoreDeps> = {}): Promise<ImageStore> {
    const logger = pino({ level: 'debug' }, { write: (line: string) => this.logLines.push(line) })
    return ImageStore.open(
      {
        ...IMAGE_TOOLS,
        root: join(this.dir, 'root'),
        state: join(this.dir, 'state'),
        registriesConf: join(this.dir, 'registries.conf'),
        certsDir: '',
        policy: '',
        env: {},
        maxConcurrentPulls: 4,
        pullTimeoutMs: 60_000,
        minFreeBytes: 0,
        pinned: [],
        ...options,
      },
      { run: this.#programs.run, libc: loadLibc(), logger, usedBy: () => [], ...deps },
    )
  }

  /** Nothing of a store may stay mounted. */
  mounts(): string[] {
    return mounts(this.dir)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#programs[Symbol.asyncDispose]()
    // Ours from mkdtemp, and nothing is mounted in it.
    await rm(this.dir, { recursive: true, force: true })
  }
}
