import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ImageOptions, type PushedImage, pushImage } from './images.ts'
import { type Registry, startRegistry } from './registry.ts'

/** The registry of a daemon under test, on the loopback of its node; it is there from the first image on. */
export class DaemonImages implements AsyncDisposable {
  /** What the daemon is told of registries: containers-registries.conf(5). */
  readonly registriesConf: string
  readonly #node: string
  readonly #pushed = new Map<string, Promise<PushedImage>>()
  #registry: Promise<Registry> | undefined

  constructor(options: { readonly dir: string; readonly node: string }) {
    this.registriesConf = join(options.dir, 'registries.conf')
    this.#node = options.node
  }

  /** Must have been called before the daemon starts. */
  async prepare(): Promise<void> {
    await writeFile(this.registriesConf, '')
  }

  registry(): Promise<Registry> {
    this.#registry ??= this.#start()
    return this.#registry
  }

  /** Makes an image and pushes it, unless one of the same name and tag was pushed before. */
  push(options: ImageOptions): Promise<PushedImage> {
    const name = `${options.name}:${options.tag ?? ''}`
    let pushed = this.#pushed.get(name)
    if (!pushed) {
      pushed = this.registry().then((registry) => pushImage(registry, options))
      this.#pushed.set(name, pushed)
    }
    return pushed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#registry)?.[Symbol.asyncDispose]()
  }

  async #start(): Promise<Registry> {
    const registry = await startRegistry({ node: this.#node })
    await writeFile(this.registriesConf, `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\n`)
    return registry
  }
}
