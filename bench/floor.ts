import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BridgeNetwork, Machine } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { command, ended } from './process.ts'
import type { Subject } from './subject.ts'

/** The parts of a pod, in the order in which they are made and unmade. */
const PARTS = [
  'ip netns add',
  'CNI ADD',
  'crun create',
  'crun start',
  'crun kill',
  'CNI DEL',
  'crun delete',
  'ip netns del',
] as const
export type FloorPart = (typeof PARTS)[number]

/** What is read of the runtime spec of a pause container. */
interface PauseSpec {
  readonly hostname?: string
  readonly linux: { readonly namespaces: readonly { readonly type: string; readonly path?: string }[] }
}

interface FloorPod {
  readonly name: string
  readonly hostNetwork: boolean
  addResult: string
  pid: number
}

/**
 * The serial floor: the same namespaces, plugin and runtime by bare commands, one after the other, with nothing recorded,
 * watched or checked. Whoever runs these commands one by one cannot be faster.
 */
export class Floor implements Subject {
  readonly name = 'floor'
  readonly pidPerContainer = false
  readonly daemonPid = (): undefined => undefined
  readonly #options: BenchOptions
  readonly #machine: Machine
  readonly #network: BridgeNetwork
  readonly #spec: PauseSpec
  readonly #pods = new Map<string, FloorPod>()
  #timings = new Map<FloorPart, number[]>()

  /** @param spec the runtime spec of a pause container of sandboxerd in the pod's network, as its verbose status has it. */
  constructor(options: BenchOptions, machine: Machine, network: BridgeNetwork, spec: unknown) {
    this.#options = options
    this.#machine = machine
    this.#network = network
    this.#spec = spec as PauseSpec
  }

  /** The times of each part since this was last called. */
  takeTimings(): ReadonlyMap<FloorPart, readonly number[]> {
    const timings = this.#timings
    this.#timings = new Map()
    return timings
  }

  async up(name: string, hostNetwork: boolean): Promise<string> {
    const pod: FloorPod = { name, hostNetwork, addResult: '', pid: 0 }
    this.#pods.set(name, pod)
    if (!hostNetwork) {
      await this.#time('ip netns add', () => command('ip', ['netns', 'add', name]))
      pod.addResult = await this.#time('CNI ADD', () => this.#plugin('ADD', pod))
    }
    await this.#bundle(pod)
    const args = ['create', '--bundle', this.#bundleDir(name), '--pid-file', join(this.#bundleDir(name), 'pid'), name]
    await this.#time('crun create', () => this.#runtime(args))
    await this.#time('crun start', () => this.#runtime(['start', name]))
    return name
  }

  async stop(id: string): Promise<void> {
    const pod = this.#pod(id)
    pod.pid = Number(await readFile(join(this.#bundleDir(id), 'pid'), 'utf8'))
    await this.#time('crun kill', async () => {
      await this.#runtime(['kill', id, 'KILL'])
      await ended(pod.pid)
    })
    if (!pod.hostNetwork) await this.#time('CNI DEL', () => this.#plugin('DEL', pod))
  }

  async remove(id: string): Promise<void> {
    const pod = this.#pod(id)
    await this.#time('crun delete', () => this.#runtime(['delete', id]))
    if (!pod.hostNetwork) await this.#time('ip netns del', () => command('ip', ['netns', 'del', id]))
    // Made by ourselves, and nothing is mounted in it.
    await rm(this.#bundleDir(id), { recursive: true })
    this.#pods.delete(id)
  }

  async pids(id: string): Promise<readonly number[]> {
    return [Number(await readFile(join(this.#bundleDir(id), 'pid'), 'utf8'))]
  }

  /** Takes away what a failed run has left. */
  async clear(): Promise<void> {
    for (const { name, hostNetwork } of this.#pods.values()) {
      await this.#runtime(['delete', '--force', name]).catch(() => undefined)
      if (hostNetwork) continue
      await this.#plugin('DEL', this.#pod(name)).catch(() => undefined)
      await command('ip', ['netns', 'del', name]).catch(() => undefined)
    }
    this.#pods.clear()
  }

  async #time<T>(part: FloorPart, work: () => Promise<T>): Promise<T> {
    const began = performance.now()
    const result = await work()
    const times = this.#timings.get(part) ?? []
    times.push(performance.now() - began)
    this.#timings.set(part, times)
    return result
  }

  async #bundle({ name, hostNetwork }: FloorPod): Promise<void> {
    const bundle = this.#bundleDir(name)
    await mkdir(bundle, { recursive: true })
    const namespaces = this.#spec.linux.namespaces
      .filter(({ type }) => !hostNetwork || (type !== 'network' && type !== 'uts'))
      .map((namespace) => (namespace.type === 'network' ? { ...namespace, path: `/run/netns/${name}` } : namespace))
    const linux = { ...this.#spec.linux, namespaces, cgroupsPath: `${this.#machine.cgroupParent}/${name}` }
    const { hostname, ...spec } = this.#spec
    const config = { ...spec, ...(hostNetwork ? {} : { hostname }), linux }
    await writeFile(join(bundle, 'config.json'), JSON.stringify(config))
  }

  #plugin(verb: 'ADD' | 'DEL', pod: FloorPod): Promise<string> {
    const { pluginDir } = this.#options
    const input = JSON.stringify({
      cniVersion: '1.0.0',
      name: this.#network.name,
      ...this.#network.plugin,
      ...(verb === 'DEL' && pod.addResult ? { prevResult: JSON.parse(pod.addResult) as unknown } : {}),
    })
    const env = {
      PATH: process.env['PATH'] ?? '',
      CNI_COMMAND: verb,
      CNI_CONTAINERID: pod.name,
      CNI_NETNS: `/run/netns/${pod.name}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: pluginDir,
    }
    return command(join(pluginDir, 'bridge'), [], { env, input, output: true })
  }

  #runtime(args: readonly string[]): Promise<string> {
    return command(this.#options.runtime, ['--root', join(this.#machine.dir, 'floor-runtime'), ...args])
  }

  #bundleDir(name: string): string {
    return join(this.#machine.dir, 'floor', name)
  }

  #pod(id: string): FloorPod {
    const pod = this.#pods.get(id)
    if (!pod) throw new Error(`the floor has no pod ${id}`)
    return pod
  }
}
