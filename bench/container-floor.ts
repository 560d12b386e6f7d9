import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Machine } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { command, ended } from './process.ts'
import { EXECED } from './workload.ts'

/** What is read of the runtime spec of a container. */
interface ContainerSpec {
  readonly root: { readonly path: string }
  readonly linux: object
}

/**
 * The floor of containers: overlay mount and OCI runtime by bare commands, one after the other, in the pod of another
 * container, with its very spec and layers; no monitor, no log, nothing recorded.
 */
export class ContainerFloor {
  readonly #options: BenchOptions
  readonly #machine: Machine
  readonly #spec: ContainerSpec
  readonly #lower: string
  readonly #ids = new Set<string>()
  #next = 0

  private constructor(options: BenchOptions, machine: Machine, spec: ContainerSpec, lower: string) {
    this.#options = options
    this.#machine = machine
    this.#spec = spec
    this.#lower = lower
  }

  /** @param spec the runtime spec of a container that runs, whose pod outlives the floor. */
  static async of(options: BenchOptions, machine: Machine, spec: unknown): Promise<ContainerFloor> {
    const { path } = (spec as ContainerSpec).root
    const mountinfo = await readFile('/proc/self/mountinfo', 'utf8')
    const line = mountinfo.split('\n').find((text) => text.split(' ')[4] === path)
    const lower = /lowerdir=([^, ]*)/.exec(line ?? '')?.[1]
    if (lower === undefined) throw new Error(`${path} is no overlay mount`)
    // The names of layers are short, so that many of them fit, and relative to where the store keeps its short names.
    const shortNames = path.replace(/\/state\/containers\/.*$/, '/root/images/overlay/l')
    const layers = lower.split(':').map((layer) => resolve(shortNames, layer))
    return new ContainerFloor(options, machine, spec as ContainerSpec, layers.join(':'))
  }

  async create(): Promise<string> {
    const id = `floor-${process.pid}-${this.#next++}`
    const dir = this.#dir(id)
    for (const name of ['upper', 'work', 'rootfs']) await mkdir(join(dir, name), { recursive: true })
    this.#ids.add(id)
    const layers = `lowerdir=${this.#lower},upperdir=${join(dir, 'upper')},workdir=${join(dir, 'work')}`
    await command('mount', ['-t', 'overlay', 'overlay', '-o', layers, join(dir, 'rootfs')])
    const root = { ...this.#spec.root, path: join(dir, 'rootfs') }
    const linux = { ...this.#spec.linux, cgroupsPath: `${this.#machine.cgroupParent}/${id}` }
    await writeFile(join(dir, 'config.json'), JSON.stringify({ ...this.#spec, root, linux }))
    await this.#runtime(['create', '--bundle', dir, '--pid-file', join(dir, 'pid'), id])
    return id
  }

  async start(id: string): Promise<void> {
    await this.#runtime(['start', id])
  }

  async exec(id: string): Promise<void> {
    await this.#runtime(['exec', id, ...EXECED])
  }

  async stop(id: string): Promise<void> {
    await this.#runtime(['kill', id, 'TERM'])
    await ended(Number(await readFile(join(this.#dir(id), 'pid'), 'utf8')))
  }

  async remove(id: string): Promise<void> {
    await this.#runtime(['delete', id])
    await command('umount', [join(this.#dir(id), 'rootfs')])
    // Made by ourselves, and nothing is mounted in it any more.
    await rm(this.#dir(id), { recursive: true })
    this.#ids.delete(id)
  }

  /** Takes away what a failed run has left. */
  async clear(): Promise<void> {
    for (const id of this.#ids) {
      await this.#runtime(['delete', '--force', id]).catch(() => undefined)
      await command('umount', [join(this.#dir(id), 'rootfs')]).catch(() => undefined)
    }
    this.#ids.clear()
  }

  #runtime(args: readonly string[]): Promise<string> {
    return command(this.#options.runtime, ['--root', join(this.#machine.dir, 'floor-runtime'), ...args])
  }

  #dir(id: string): string {
    return join(this.#machine.dir, 'floor-containers', id)
  }
}
