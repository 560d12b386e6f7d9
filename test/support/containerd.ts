import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { stringify } from 'smol-toml'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { cgroupMounts } from '../../src/host/cgroup/cgroup.ts'
import { CriClient } from './cri-client.ts'
import { TestDaemon } from './daemon.ts'
import type { ImageOptions } from './images.ts'
import { eventually } from './pod-facts.ts'
import { slowed } from './slowness.ts'

const START_MS = slowed(30_000)
const END_MS = slowed(20_000)
const SOCKET = 'containerd.sock'
/** Its name in containerd's configuration, and of its directories below root and state. */
const CRI = 'io.containerd.grpc.v1.cri'
/** Where containerd and its shims make the sockets of shims, whatever else they are told. */
const SHIM_SOCKETS = '/run/containerd/s'

export interface ContainerdOptions {
  /** Its program; the shim lies beside it. */
  readonly program: string
  /** null: without the daemon, of which only the node is made. */
  readonly daemon?: null
}

const running = new Set<ChildProcess>()
// A test run that is cut short takes them with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/**
 * A containerd, and a daemon under test on whose node it is: with everything it owns below `containerd` in the daemon's
 * directory, and with the daemon's network, registry and cgroup parent. Its handler `remote` has the daemon as its
 * sandboxer, `own` containerd itself. Disposing of it disposes of the daemon.
 */
export class TestContainerd implements AsyncDisposable {
  readonly dir: string
  readonly daemon: TestDaemon
  readonly #options: ContainerdOptions
  readonly #ids = new Set<string>()
  #child: ChildProcess | undefined
  #client: CriClient | undefined
  #output = ''

  private constructor(daemon: TestDaemon, options: ContainerdOptions) {
    this.daemon = daemon
    this.dir = containerdDir(daemon.dir)
    this.#options = options
  }

  /** Starts both; they can run pods when this returns. */
  static async start(options: ContainerdOptions): Promise<TestContainerd> {
    const ours = await TestDaemon.prepare({ config: servingContainerd, programs: dirname(options.program) })
    const containerd = new TestContainerd(ours, options)
    try {
      await containerd.#prepare()
      if (options.daemon !== null) await ours.launch()
      await containerd.launch()
      return containerd
    } catch (error) {
      await containerd[Symbol.asyncDispose]()
      throw error
    }
  }

  get client(): CriClient {
    if (!this.#client) throw new Error('the containerd under test does not run')
    return this.#client
  }

  get node(): string {
    return this.daemon.node
  }

  get socket(): string {
    return join(this.dir, SOCKET)
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  pod(part: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
    return this.daemon.pod(part)
  }

  hostPod(part: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
    return this.daemon.hostPod(part)
  }

  async run(config: PodSandboxConfig, runtimeHandler = 'remote'): Promise<string> {
    return this.track(await this.client.run(config, runtimeHandler))
  }

  async pull(options: ImageOptions = { name: 'busybox' }): Promise<string> {
    const { ref } = await this.daemon.images.push(options)
    if ((await this.client.images.status(ref)) === null) await this.client.images.pull(ref)
    return ref
  }

  /** Nothing on the machine may carry this id at the end. */
  track(id: string): string {
    this.#ids.add(id)
    return this.daemon.track(id)
  }

  /** The sockets of shims that are there: each has a name that is made of who started it, and of its id. */
  shimSockets(): string[] {
    const owners = [this.socket, join(this.daemon.dir, 'state', 'events.sock')]
    const paths = owners.flatMap((owner) => [...this.#ids].map((id) => join(owner, 'k8s.io', id)))
    const wanted = new Set(paths.map((path) => createHash('sha256').update(path).digest('hex')))
    return names(SHIM_SOCKETS)
      .filter((name) => wanted.has(name))
      .map((name) => join(SHIM_SOCKETS, name))
  }

  /** Starts it, when it does not run; it can run pods when this returns. */
  async launch(): Promise<void> {
    this.spawn()
    this.#client?.[Symbol.dispose]()
    const end = performance.now() + START_MS
    for (let problem = ''; ; await sleep(50)) {
      const client = new CriClient(this.socket)
      try {
        const conditions = (await client.nodeStatus()).status?.conditions ?? []
        const unready = conditions.filter(({ type, status }) => !status && /^(Runtime|Network)Ready$/.test(type))
        problem = unready.map(({ type, reason, message }) => `${type}: ${reason} ${message}`).join('; ')
        if (problem === '') {
          this.#client = client
          return
        }
      } catch (error) {
        problem = String(error)
      }
      client[Symbol.dispose]()
      if (!this.isRunning) throw new Error(`containerd ended: ${this.#output.slice(-4000)}`)
      if (performance.now() > end) throw new Error(`containerd is not ready: ${problem}\n${this.#output.slice(-4000)}`)
    }
  }

  /** Starts it and waits for nothing. */
  spawn(): void {
    if (this.isRunning) throw new Error('the containerd under test runs already')
    const { program } = this.#options
    const args = [`--net=/run/netns/${this.node}`, program, '--config', join(this.dir, 'config.toml')]
    const child = spawn('/usr/bin/nsenter', args, {
      cwd: '/',
      env: { PATH: [dirname(program), process.env['PATH']].join(delimiter) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        this.#output += data.toString()
      })
    }
    const { pid } = child
    running.add(child)
    if (pid !== undefined) this.daemon.peers.add(pid)
    child.once('exit', () => {
      running.delete(child)
      if (pid !== undefined) this.daemon.peers.delete(pid)
    })
    this.#child = child
  }

  /** Ends it; its pods and their shims stay. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#child
    child?.kill(signal)
    const end = performance.now() + END_MS
    while (this.isRunning) {
      if (performance.now() > end) child?.kill('SIGKILL')
      await sleep(5)
    }
  }

  async restart(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (this.isRunning) await this.end(signal)
    await this.launch()
  }

  /** Starts the daemon again, which is killed if it runs, and waits until containerd has found it: it waits between tries. */
  async restartDaemon(): Promise<void> {
    await this.daemon.restart()
    const isFound = async (): Promise<boolean> => {
      try {
        const probe = await this.run(this.hostPod())
        await this.client.stop(probe)
        await this.client.remove(probe)
        return true
      } catch (error) {
        if ((error as { code?: number }).code !== grpc.UNAVAILABLE) throw error
        return false
      }
    }
    if (!(await eventually(isFound, (found) => found, 30_000))) throw new Error('containerd does not find the daemon')
  }

  /** Stops and removes every pod that is listed, as a kubelet does that wants none. */
  async removeListed(): Promise<void> {
    for (const { id } of await this.client.list()) {
      this.track(id)
      await this.client.stop(id)
      await this.client.remove(id)
    }
  }

  /** @throws Error that lists what is left of its pods, at the daemon or on its own side. */
  async expectNothingLeft(): Promise<void> {
    this.#removeParents()
    await this.daemon.expectNothingLeft()
    const end = performance.now() + slowed(8000)
    for (;;) {
      const left = this.#leftovers()
      if (left.length === 0) return
      if (performance.now() > end) throw new Error(`left of containerd's pods:\n${left.join('\n')}`)
      await sleep(100)
    }
  }

  /** Ends both, and removes everything, also what a failed test has left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.[Symbol.dispose]()
    await this.end('SIGKILL')
    await this.daemon[Symbol.asyncDispose]()
    for (const path of this.shimSockets()) await rm(path, { force: true })
  }

  /** The cgroups above those of pods are the kubelet's. One that still holds something stays, and is found. */
  #removeParents(): void {
    const parents = cgroupMounts().map((mount) => join(mount, this.daemon.cgroupParent))
    for (const path of parents.flatMap((parent) => [...names(parent).map((name) => join(parent, name)), parent])) {
      try {
        rmdirSync(path)
      } catch {
        // A file, or not empty, or not there.
      }
    }
  }

  #leftovers(): string[] {
    const tasks = 'state/io.containerd.runtime.v2.task/k8s.io'
    const own = ['root', 'state'].flatMap((top) => ['sandboxes', 'containers'].map((kind) => join(top, CRI, kind)))
    const files = [...own, tasks, 'runtime/k8s.io', 'runtime'].flatMap((place) =>
      names(join(this.dir, place))
        .filter((name) => place !== 'runtime' || name !== 'k8s.io')
        .map((name) => `file ${place}/${name}`),
    )
    return [...files, ...this.shimSockets().map((path) => `socket ${path}`)]
  }

  async #prepare(): Promise<void> {
    for (const name of ['root', 'state', 'opt']) await mkdir(join(this.dir, name), { recursive: true })
    const pause = await this.daemon.images.push({ name: 'pause', config: { Entrypoint: ['/bin/sleep', '1000000'] } })
    writeFileSync(join(this.dir, 'config.toml'), stringify(this.#config(pause.ref)))
  }

  #config(pauseImage: string): object {
    const { dir } = this
    const options = {
      BinaryName: '/usr/sbin/runc',
      Root: join(dir, 'runtime'),
      SystemdCgroup: false,
    }
    const handler = { runtime_type: 'io.containerd.runc.v2', options }
    return {
      version: 3,
      root: join(dir, 'root'),
      state: join(dir, 'state'),
      disabled_plugins: ['blockfile', 'btrfs', 'devmapper', 'zfs', 'erofs'].map(
        (n) => `io.containerd.snapshotter.v1.${n}`,
      ),
      grpc: { address: this.socket },
      ttrpc: { address: `${this.socket}.ttrpc` },
      proxy_plugins: { sandboxerd: { type: 'sandbox', address: join(this.daemon.dir, 'sandboxer.sock') } },
      plugins: {
        'io.containerd.cri.v1.images': { snapshotter: 'overlayfs', pinned_images: { sandbox: pauseImage } },
        'io.containerd.cri.v1.runtime': {
          disable_apparmor: true,
          // Not everybody who runs these tests may make a process less likely to be killed.
          restrict_oom_score_adj: true,
          netns_mounts_under_state_dir: true,
          enable_cdi: false,
          containerd: {
            default_runtime_name: 'own',
            runtimes: { own: handler, remote: { ...handler, sandboxer: 'sandboxerd' } },
          },
          cni: {
            bin_dirs: [join(this.daemon.dir, 'bin'), '/usr/lib/cni'],
            conf_dir: this.daemon.confDir,
            max_conf_num: 1,
          },
        },
        [CRI]: { stream_server_address: '127.0.0.1', stream_server_port: '0' },
        'io.containerd.internal.v1.opt': { path: join(dir, 'opt') },
        'io.containerd.image-verifier.v1.bindir': { bin_dir: join(dir, 'opt', 'image-verifier') },
        'io.containerd.nri.v1.nri': { disable: true },
      },
    }
  }
}

/** What a daemon is told of the containerd whose sandboxer it is. */
function servingContainerd({ dir }: { readonly dir: string }): Readonly<Record<string, unknown>> {
  const own = containerdDir(dir)
  return {
    sandboxer: {
      front_end_root: join(own, 'root', CRI),
      front_end_state: join(own, 'state', CRI),
      events_address: join(own, `${SOCKET}.ttrpc`),
      // Long enough for a pod to be started, and short enough to wait for.
      created_ttl: 3,
    },
  }
}

function containerdDir(dir: string): string {
  return join(dir, 'containerd')
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}
