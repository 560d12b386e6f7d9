import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { credentials, type requestCallback, type ServiceError, status } from '@grpc/grpc-js'
import type { AnnouncedTask } from '../../src/executor/task/types.ts'
import type { ControllerStartResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { loadCri, loadSandboxApi } from '../../src/grpc/load.ts'
import { runOk } from '../../src/host/programs/run.ts'
import { IsuladContainer } from './isulad-container.ts'

const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
const { PodSandboxConfig: Config } = loadCri().runtime.v1
const TASKS_TYPE = 'github.com/containerd/containerd/Tasks'
const STOP_TIMEOUT_SECS = 10

export interface IsuladOptions {
  /** The socket of the sandboxer. */
  readonly address: string
  /** Its own, for bundles. */
  readonly dir: string
  /** The key of `cri-sandboxers` in its configuration. */
  readonly sandboxer: string
  /** Of pods and containers. */
  readonly cgroupParent: string
  /** From one Platform call to the next, after the sandboxer could not be reached. 5 s in the original. */
  readonly probeMs: number
}

/** What iSulad keeps of a pod. */
export interface IsuladPod {
  readonly id: string
  readonly netns: string
  pid: number
  address: string
  state: 'ready' | 'pending' | 'stopped'
  /** What its exit callback was called with: an exit status, or the number of a gRPC code. */
  exit: number | undefined
  /** The whole desired state, as the sandboxer was told it. */
  tasks: readonly AnnouncedTask[]
}

/**
 * The sandboxer half of iSulad's CRI (its Rust client of 2024 and later), call by call: an empty type of the configuration
 * and no record in Create, the network after Start, Platform as the probe of a sandboxer that was gone, `extensions.tasks`
 * before every container, one lock around all unary calls, and no difference between one error and another.
 */
export class IsuladClient implements AsyncDisposable {
  readonly options: IsuladOptions
  readonly pods: Map<string, IsuladPod>
  /** Every unary call, in order. */
  readonly calls: string[] = []
  readonly #client: InstanceType<typeof Controller>
  readonly #waits = new Set<{ cancel(): void }>()
  #closed = false
  #lock: Promise<unknown> = Promise.resolve()
  #probing: Promise<void> = Promise.resolve()

  /** @param pods what an iSulad before it has kept. */
  constructor(options: IsuladOptions, pods: readonly IsuladPod[] = []) {
    this.options = options
    this.pods = new Map(pods.map((pod) => [pod.id, pod]))
    const reconnect = { 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 500 }
    const own = { 'grpc.use_local_subchannel_pool': 1 }
    this.#client = new Controller(`unix://${options.address}`, credentials.createInsecure(), { ...reconnect, ...own })
  }

  /** What it does when it starts: a sandbox that is not READY has ended, whatever else it may be. */
  async recover(): Promise<void> {
    for (const pod of this.pods.values()) {
      const request = { ...this.#request(pod.id), verbose: false }
      const answer = await this.#unary<ControllerStatusResponse__Output>('Status', (done) =>
        this.#client.status(request, done),
      ).catch(() => undefined)
      if (answer?.state !== 'SANDBOX_READY') pod.state = 'stopped'
      else {
        pod.address = answer.address
        void this.#waitFor(pod)
      }
    }
  }

  /** RunPodSandbox. */
  async runPod(config: PodSandboxConfig): Promise<IsuladPod> {
    const id = randomBytes(32).toString('hex')
    const netns = `isulacni-${id.slice(0, 8)}`
    await runOk('ip', ['netns', 'add', netns], { timeoutMs: 10_000 })
    const pod: IsuladPod = { id, netns, pid: 0, address: '', state: 'ready', exit: undefined, tasks: [] }
    this.pods.set(id, pod)
    const started = await this.#create(pod, config)
    pod.pid = started.pid
    pod.address = started.address
    // Only now the CNI plugins: a sandboxer has started the sandbox without an address.
    await runOk('ip', ['-n', netns, 'link', 'set', 'lo', 'up'], { timeoutMs: 10_000 })
    void this.#waitFor(pod)
    return pod
  }

  /** StopPodSandbox. */
  async stopPod(id: string): Promise<void> {
    const request = { ...this.#request(id), timeout_secs: STOP_TIMEOUT_SECS }
    await this.#unary('Stop', (done) => this.#client.stop(request, done))
  }

  /** RemovePodSandbox. */
  async removePod(id: string): Promise<void> {
    if (this.pods.get(id)?.state === 'ready') await this.stopPod(id)
    await this.#unary('Shutdown', (done) => this.#client.shutdown(this.#request(id), done))
    const pod = this.pods.get(id)
    if (pod) await runOk('ip', ['netns', 'delete', pod.netns], { timeoutMs: 10_000 })
    this.pods.delete(id)
  }

  /** CreateContainer: the bundle, the sandboxer is told, then the task. */
  async createContainer(pod: IsuladPod, rootfs: string, args: readonly string[]): Promise<IsuladContainer> {
    const container = await IsuladContainer.prepare(
      { ...this.options, pod, rootfs, args },
      { update: (tasks) => this.update(pod, tasks) },
    )
    await container.create()
    return container
  }

  /** Tells of all tasks that the pod shall have. */
  async update(pod: IsuladPod, tasks: readonly AnnouncedTask[]): Promise<void> {
    const now = { seconds: Math.floor(Date.now() / 1000), nanos: 0 }
    const { sandboxer } = this.options
    const request = {
      ...this.#request(pod.id),
      sandbox: {
        sandbox_id: pod.id,
        runtime: { name: 'io.containerd.runc.v2' },
        labels: { name: pod.id },
        created_at: now,
        updated_at: now,
        sandboxer,
        extensions: { tasks: { type_url: TASKS_TYPE, value: Buffer.from(JSON.stringify({ tasks })) } },
      },
      fields: ['extensions.tasks'],
    }
    await this.#unary('Update', (done) => this.#client.update(request, done))
    pod.tasks = tasks
  }

  /** It ends; its pods go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    for (const wait of this.#waits) wait.cancel()
    this.#client.close()
  }

  async #create(pod: IsuladPod, config: PodSandboxConfig): Promise<ControllerStartResponse__Output> {
    const request = {
      ...this.#request(pod.id),
      options: { type_url: '', value: Config.serialize(config) },
      netns_path: `/var/run/netns/${pod.netns}`,
    }
    const bundle = join(this.options.dir, 'sandbox', pod.id)
    await mkdir(bundle, { recursive: true })
    for (const file of ['hostname', 'hosts', 'resolv.conf']) await writeFile(join(bundle, file), '')
    await this.#unary('Create', (done) => this.#client.create(request, done))
    return this.#unary('Start', (done) => this.#client.start(this.#request(pod.id), done))
  }

  #request(id: string): { sandbox_id: string; sandboxer: string } {
    return { sandbox_id: id, sandboxer: this.options.sandboxer }
  }

  /** All unary calls are made one after the other. */
  async #unary<A>(name: string, send: (done: requestCallback<A>) => unknown): Promise<A> {
    const call = this.#lock.then(async () => {
      this.calls.push(name)
      return new Promise<A>((resolve, reject) => {
        send((error, answer) => {
          if (error || answer === undefined) reject(new Error(`${name}: -1 (${error?.message})`))
          else resolve(answer)
        })
      })
    })
    this.#lock = call.catch(() => undefined)
    return call
  }

  /** For ever, until the sandbox has ended in its eyes. */
  async #waitFor(pod: IsuladPod): Promise<void> {
    while (!this.#closed) {
      try {
        pod.exit = await this.#wait(pod.id)
        pod.state = 'stopped'
        return
      } catch (cause) {
        const error = cause as ServiceError
        if (this.#closed) return
        if (error.code !== status.UNAVAILABLE && !/BrokenPipe/.test(error.message)) {
          pod.exit = error.code
          pod.state = 'stopped'
          return
        }
        pod.state = 'pending'
        await this.#probe(pod.id)
        pod.state = 'ready'
      }
    }
  }

  async #wait(id: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const call = this.#client.wait(this.#request(id), (error, answer) => {
        this.#waits.delete(call)
        if (error) reject(error)
        else resolve(answer?.exit_status ?? 0)
      })
      this.#waits.add(call)
    })
  }

  /** One waiter asks until it is answered; the others wait for their turn. */
  async #probe(id: string): Promise<void> {
    const mine = this.#probing.then(async () => {
      while (!this.#closed) {
        const answer = this.#unary('Platform', (done) => this.#client.platform(this.#request(id), done))
        if (await answer.then(Boolean, () => false)) return
        await sleep(this.options.probeMs)
      }
    })
    this.#probing = mine
    await mine
  }
}
