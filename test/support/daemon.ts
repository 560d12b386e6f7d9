import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmdirSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { basename, delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'smol-toml'
import { afterAll, afterEach, beforeAll } from 'vitest'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { runOk } from '../../src/host/programs/run.ts'
import { CGROUP_DRIVER, daemonParent, podParent } from './cgroup-driver.ts'
import { CriClient } from './cri-client.ts'
import { DaemonImages } from './daemon-images.ts'
import type { ImageOptions } from './images.ts'
import { findShim } from './peers.ts'
import { slowed } from './slowness.ts'
import {
  cgroups,
  type MachineSnapshot,
  mounts,
  processes,
  settledLeftovers,
  shimFiles,
  snapshot,
  type Traces,
} from './machine.ts'

export const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const START_MS = slowed(20_000)
const END_MS = slowed(20_000)

type Tables = Readonly<Record<string, unknown>>

export interface DaemonOptions {
  /** `SANDBOXERD_FAILPOINTS` of the first start. */
  readonly failpoints?: string
  /** Over the test's configuration, table by table. */
  readonly config?: Tables | ((daemon: { readonly dir: string }) => Tables)
  /** The files of the CNI configuration directory; by default one bridge network. */
  readonly networks?: (daemon: { readonly dir: string }) => Readonly<Record<string, object>>
  /** Directories that get a file system of their own, and its size (as `8m`). */
  readonly tmpfs?: Readonly<Partial<Record<'root' | 'state', string>>>
  /** The network namespace of another daemon, to be on the same node. */
  readonly node?: string
  /** What is started, and started again; default: the daemon of this checkout. See {@link TestDaemon.main}. */
  readonly main?: string
  /** A directory whose programs come before those on PATH; default: that of the shims to test with. */
  readonly programs?: string
}

const HAS_SHIM = findShim() !== undefined
const SHIM_RUNTIMES = {
  'runc-v2': { runtime: '/usr/sbin/runc', runtime_type: 'io.containerd.runc.v2' },
  'crun-v2': { runtime: '/usr/bin/crun', runtime_type: 'io.containerd.runc.v2' },
}
/** A handler whose pods a containerd shim runs, with their containers; none where there is no shim. */
export const SHIM_HANDLERS: readonly string[] = HAS_SHIM ? ['runc-v2'] : []
/** The same with a runtime that can do what crun can. */
export const CRUN_SHIM_HANDLERS: readonly string[] = HAS_SHIM ? ['crun-v2'] : []

const running = new Set<ChildProcess>()
// A test run that is cut short takes its daemons with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

let pods = 0

/**
 * The real daemon, with everything it owns below a directory of its own, on a node of its own: a network namespace, so
 * that no test touches the machine's interfaces, nor another test's.
 */
export class TestDaemon implements AsyncDisposable {
  readonly dir: string
  readonly node: string
  readonly cgroupParent: string
  readonly images: DaemonImages
  /** The entry of the daemon that the next start runs: that of another version, where a test puts it here. */
  main: string
  /** What a service manager gives it at its starts: variables, and open descriptors from 3 on. */
  service: { readonly env: Readonly<Record<string, string>>; readonly fds: readonly number[] } = { env: {}, fds: [] }
  /** The pids of others that may know the directory: of what stands before or behind this daemon. */
  readonly peers = new Set<number>()
  readonly #ownsNode: boolean
  readonly #path: string
  readonly #ids = new Set<string>()
  /** What a test has found already shall not fail those after it. */
  readonly #told = new Set<string>()
  #child: ChildProcess | undefined
  #client: CriClient | undefined
  #before: MachineSnapshot = { links: new Set() }
  #output = ''
  /** Where the output of the newest start begins. */
  #outputStart = 0

  private constructor(dir: string, { node, programs, main = MAIN }: DaemonOptions) {
    this.dir = dir
    this.main = main
    const first = programs ?? process.env['SANDBOXERD_TEST_SHIMS'] ?? ''
    this.#path = [...(first === '' ? [] : [first]), process.env['PATH'] ?? ''].join(delimiter)
    const mark = dir.slice(-6).toLowerCase()
    this.node = node ?? `sbt-${mark}-${randomBytes(2).toString('hex')}`
    this.#ownsNode = node === undefined
    this.cgroupParent = daemonParent(mark)
    this.images = new DaemonImages({ dir, node: this.node })
  }

  /** Starts one; it serves when this returns. */
  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = await TestDaemon.prepare(options)
    try {
      await daemon.launch(options.failpoints)
      return daemon
    } catch (error) {
      await daemon[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Everything but the start. */
  static async prepare(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon(await mkdtemp('/tmp/sbx-'), options)
    // As the directories of a daemon usually are: others go through, which pods in user namespaces have to.
    await chmod(daemon.dir, 0o711)
    await daemon.#prepare(options)
    return daemon
  }

  get client(): CriClient {
    if (!this.#client) throw new Error('the daemon under test does not run')
    return this.#client
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** All that it has logged; `newest` only since its newest start. */
  logs(which: 'all' | 'newest' = 'all'): string {
    return which === 'all' ? this.#output : this.#output.slice(this.#outputStart)
  }

  /** Where the CNI configuration lies. */
  get confDir(): string {
    return join(this.dir, 'cni')
  }

  get database(): string {
    return join(this.dir, 'root', 'sandboxerd.db')
  }

  /** A pod of this daemon, with a name of its own. */
  pod(part: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
    const name = `pod-${process.pid}-${pods++}`
    return {
      metadata: { name, namespace: 'test', uid: `uid-${name}`, attempt: 0 },
      ...part,
      linux: { cgroup_parent: podParent(this.cgroupParent, name), ...part.linux },
    }
  }

  /** A pod that shares the node's network. */
  hostPod(part: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
    return this.pod({ ...part, linux: { security_context: { namespace_options: { network: 'NODE' } }, ...part.linux } })
  }

  /** Runs a pod and returns its id. */
  async run(config: PodSandboxConfig = this.pod(), runtimeHandler = ''): Promise<string> {
    return this.track(await this.client.run(config, runtimeHandler))
  }

  /** Makes an image, pushes it to the registry of the daemon's node, pulls it, and returns its reference. */
  async pull(options: ImageOptions = { name: 'busybox' }): Promise<string> {
    const { ref } = await this.images.push(options)
    if ((await this.client.images.status(ref)) === null) await this.client.images.pull(ref)
    return ref
  }

  /** Nothing on the machine may carry this id at the end. */
  track(id: string): string {
    this.#ids.add(id)
    return id
  }

  /** Starts the daemon, which must not run; it serves when this returns. */
  async launch(failpoints = '', bootId = ''): Promise<void> {
    this.spawn(failpoints, bootId)
    const end = performance.now() + START_MS
    this.#client?.[Symbol.dispose]()
    for (;;) {
      const client = new CriClient(join(this.dir, 'cri.sock'))
      try {
        await client.version({ timeoutMs: slowed(5000) })
        this.#client = client
        return
      } catch (error) {
        client[Symbol.dispose]()
        if (!this.isRunning) throw new Error(`the daemon ended: ${this.logs('newest')}`, { cause: error })
        if (performance.now() > end) throw new Error(`no answer: ${this.logs('newest')}`, { cause: error })
        await sleep(20)
      }
    }
  }

  /**
   * Starts the daemon and waits for nothing. With a boot id, the kernel shows it that one instead of its own: in a mount
   * namespace of its own, where a file is mounted over the kernel's.
   */
  spawn(failpoints = '', bootId = ''): void {
    if (this.isRunning) throw new Error('the daemon under test runs already')
    this.#outputStart = this.#output.length
    const { env, fds } = this.service
    // The pid that LISTEN_PID names is known only to the process that becomes the daemon.
    const activate = ['sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh']
    const daemon = [process.execPath, this.main, '--config', join(this.dir, 'config.toml')]
    const command = [...(fds.length === 0 ? [] : activate), ...daemon]
    const args = [`--net=/run/netns/${this.node}`, ...(bootId === '' ? [] : this.#withBootId(bootId)), ...command]
    const child = spawn('/usr/bin/nsenter', args, {
      cwd: '/',
      env: { PATH: this.#path, SANDBOXERD_FAILPOINTS: failpoints, ...env },
      stdio: ['ignore', 'pipe', 'pipe', ...fds],
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data: Buffer) => {
        this.#output += data.toString()
      })
    }
    running.add(child)
    child.once('exit', () => running.delete(child))
    this.#child = child
  }

  /** Resolves with how the daemon ended. */
  async ended(): Promise<{ code: number | null; signal: string | null }> {
    const child = this.#child
    if (!child) throw new Error('the daemon under test was never started')
    const end = performance.now() + END_MS
    while (this.isRunning) {
      if (performance.now() > end) throw new Error(`the daemon does not end: ${this.logs('newest')}`)
      await sleep(5)
    }
    return { code: child.exitCode, signal: child.signalCode }
  }

  async kill9(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.ended()
  }

  /** Ends it as a service manager does, and returns its exit code. */
  async stop(): Promise<number | null> {
    this.#child?.kill('SIGTERM')
    return (await this.ended()).code
  }

  /** Kills it if it runs, starts it again, and waits until it has recovered. */
  async restart(failpoints = ''): Promise<void> {
    if (this.isRunning) await this.kill9()
    await this.launch(failpoints)
    await this.recovered()
  }

  /**
   * What a power cut leaves: processes, mounts, interfaces, cgroups and everything that lies in memory are gone, and the
   * daemon starts with another boot id. What plugins keep on disk is still there.
   */
  async reboot(bootId: string): Promise<void> {
    await this.kill9()
    await this.killPods()
    await this.#unmountAll()
    await this.#removeCgroups()
    for (const path of shimFiles(this.#traces())) await rm(path, { recursive: true, force: true })
    for (const name of ['state', 'netns']) await rm(join(this.dir, name), { recursive: true, force: true })
    await this.launch('', bootId)
    await this.recovered()
  }

  /** Kills all processes of its pods, monitors as well, and resolves when none is left. */
  async killPods(): Promise<void> {
    const end = performance.now() + END_MS
    for (let left = processes(this.#traces()); left.length > 0; left = processes(this.#traces())) {
      for (const { pid } of left) tryTo(() => process.kill(pid, 'SIGKILL'))
      if (performance.now() > end) throw new Error(`cannot be killed: ${left.map(({ what }) => what).join('; ')}`)
      await sleep(20)
    }
  }

  /** Resolves when every sandbox on record has been looked at. */
  async recovered(): Promise<void> {
    await this.logged('"msg":"recovered"')
  }

  /** Resolves when the log since the newest start holds a text. */
  async logged(text: string): Promise<void> {
    const end = performance.now() + START_MS
    while (!this.logs('newest').includes(text)) {
      if (performance.now() > end) throw new Error(`not in the log: ${text}\n${this.logs('newest')}`)
      await sleep(10)
    }
  }

  /** Stops and removes every pod that is listed, as a kubelet does that wants none. */
  async removeListed(): Promise<void> {
    for (const { id } of await this.client.list()) {
      this.track(id)
      await this.client.stop(id)
      await this.client.remove(id)
    }
  }

  /** @throws Error that lists what is left of the daemon's pods on the machine. */
  async expectNothingLeft(): Promise<void> {
    const left = await settledLeftovers(this.#traces(), this.#before)
    const news = left.filter((line) => !this.#told.has(line))
    for (const line of left) this.#told.add(line)
    if (news.length > 0) throw new Error(`left on the machine:\n${news.join('\n')}\nlog:\n${this.logs().slice(-6000)}`)
  }

  /** Ends the daemon and removes everything, also what a failed test has left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.[Symbol.dispose]()
    if (this.isRunning) await this.kill9()
    await this.killPods()
    await this.#unmountAll()
    await this.images[Symbol.asyncDispose]()
    if (this.#ownsNode) await quietly('ip', 'netns', 'delete', this.node)
    for (const name of ['root', 'state']) await quietly('umount', '-l', join(this.dir, name))
    await this.#removeCgroups()
    // Ours from mkdtemp, and nothing is mounted in it any more.
    await rm(this.dir, { recursive: true, force: true })
  }

  async #unmountAll(): Promise<void> {
    for (const path of mounts(this.dir).toReversed()) await quietly('umount', '-l', path)
  }

  async #removeCgroups(): Promise<void> {
    // Slices without processes are systemd's to remove.
    if (CGROUP_DRIVER === 'systemd') await quietly('systemctl', 'stop', basename(this.cgroupParent))
    for (const path of cgroups(this.#traces()).toReversed()) tryTo(() => rmdirSync(path))
  }

  async #prepare(options: DaemonOptions): Promise<void> {
    for (const name of ['root', 'state', 'cni', 'bin']) await mkdir(join(this.dir, name))
    for (const [name, size] of Object.entries(options.tmpfs ?? {})) {
      const args = ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', join(this.dir, name)]
      await runOk('mount', args, { timeoutMs: slowed(10_000) })
    }
    if (this.#ownsNode) {
      await runOk('ip', ['netns', 'add', this.node], { timeoutMs: slowed(10_000) })
      await runOk('ip', ['-n', this.node, 'link', 'set', 'lo', 'up'], { timeoutMs: slowed(10_000) })
    }
    await this.images.prepare()
    this.#before = await snapshot(this.node)
    const networks = options.networks?.(this) ?? { '10-test.conflist': bridgeNetwork(this) }
    for (const [file, network] of Object.entries(networks)) await this.writeNetwork(file, network)
    const own = typeof options.config === 'function' ? options.config(this) : options.config
    const config = merged(this.#config(), own ?? {})
    await writeFile(join(this.dir, 'config.toml'), stringify(config))
  }

  async writeNetwork(file: string, network: object): Promise<void> {
    await writeFile(join(this.confDir, file), JSON.stringify(network))
  }

  #withBootId(bootId: string): string[] {
    const file = join(this.dir, 'boot_id')
    writeFileSync(file, `${bootId}\n`)
    const script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, file]
  }

  #config(): Tables {
    const { dir } = this
    return {
      root: join(dir, 'root'),
      state: join(dir, 'state'),
      netns_dir: join(dir, 'netns'),
      default_runtime_handler: 'crun',
      cri: { socket: join(dir, 'cri.sock') },
      ...(CGROUP_DRIVER === 'systemd' ? { cgroup: { driver: CGROUP_DRIVER } } : {}),
      sandboxer: { socket: join(dir, 'sandboxer.sock') },
      cni: { conf_dir: this.confDir, bin_dirs: [join(dir, 'bin'), '/usr/lib/cni'] },
      runtimes: {
        crun: { runtime: '/usr/bin/crun', sandboxer: 'shim' },
        runc: { runtime: '/usr/sbin/runc', sandboxer: 'shim' },
        'crun-pinned': { runtime: '/usr/bin/crun', sandboxer: 'pinned' },
        'runc-pinned': { runtime: '/usr/sbin/runc', sandboxer: 'pinned' },
        ...(HAS_SHIM ? SHIM_RUNTIMES : {}),
      },
      // Little, since some tests give the daemon a small disk.
      images: { registries_conf: this.images.registriesConf, min_free_bytes: 1024 * 1024 },
      // Tests want to find nothing that belongs to no pod.
      shims: { warm: 0 },
      debug: { failpoints: true },
    }
  }

  #traces(): Traces {
    const { dir, node, cgroupParent, pid } = this
    return { dir, node, cgroupParent, ids: [...this.#ids], daemons: [pid, ...this.peers] }
  }
}

/** A bridge with host-local addresses, and what may follow in the chain. */
export function bridgeNetwork(
  daemon: { readonly dir: string },
  options: { readonly name?: string; readonly bridge?: object; readonly more?: readonly object[] } = {},
): object {
  const name = options.name ?? 'test'
  const ranges = [[{ subnet: '10.64.0.0/16' }]]
  const ipam = { type: 'host-local', dataDir: join(daemon.dir, 'ipam'), ranges, routes: [{ dst: '0.0.0.0/0' }] }
  const bridge = { type: 'bridge', bridge: `br-${name}`, isGateway: true, hairpinMode: true, ipam, ...options.bridge }
  return { cniVersion: '1.0.0', name, plugins: [bridge, ...(options.more ?? [])] }
}

/** One daemon for all tests of a file; after each of them nothing may be left of its pods. */
export function sharedDaemon(options: DaemonOptions = {}): () => TestDaemon {
  let daemon: TestDaemon | undefined
  const get = (): TestDaemon => {
    if (!daemon) throw new Error('the shared daemon has not started')
    return daemon
  }
  beforeAll(async () => {
    daemon = await TestDaemon.start(options)
  })
  afterEach(async () => {
    if (!daemon) return
    if (!daemon.isRunning) await daemon.restart()
    await daemon.removeListed()
    await daemon.expectNothingLeft()
  })
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]()
  })
  return get
}

/** Makes daemons for one test each. When it ends, nothing may be left of their pods, and they are disposed of. */
export function ownDaemons(): (options?: DaemonOptions) => Promise<TestDaemon> {
  const daemons: TestDaemon[] = []
  afterEach(async () => {
    const mine = daemons.splice(0)
    try {
      for (const daemon of mine) await daemon.expectNothingLeft()
    } finally {
      for (const daemon of mine.toReversed()) await daemon[Symbol.asyncDispose]()
    }
  })
  return async (options = {}) => {
    const daemon = await TestDaemon.start(options)
    daemons.push(daemon)
    return daemon
  }
}

function merged(base: Tables, over: Tables): Tables {
  const result: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const old = result[key]
    result[key] = isTable(old) && isTable(value) ? merged(old, value) : value
  }
  return result
}

function isTable(value: unknown): value is Tables {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** For clearing up: what is gone already is no reason to leave the rest. */
async function quietly(file: string, ...args: readonly string[]): Promise<void> {
  await runOk(file, args, { timeoutMs: slowed(10_000) }).catch(() => undefined)
}

function tryTo(work: () => void): void {
  try {
    work()
  } catch {
    // It has ended.
  }
}
