import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AnnouncedTask } from '../../src/executor/task/types.ts'
import { loadShimApi } from '../../src/grpc/load.ts'
import { runOk } from '../../src/host/programs/run.ts'
import { connectTtrpc } from '../../src/ttrpc/connect.ts'
import type { ClientMethod, TtrpcConnection } from '../../src/ttrpc/types.ts'
import type { IsuladPod } from './isulad-client.ts'

const api = loadShimApi()
const methods = api.containerd.task.v3.Task.service
const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process'
const SIGTERM = 15
const SIGKILL = 9
/** No call of lib-shim-v2 has a time limit. */
const CALL = { timeoutMs: 0, signal: new AbortController().signal }

export interface IsuladContainerOptions {
  readonly dir: string
  readonly cgroupParent: string
  readonly pod: IsuladPod
  /** Mounted, on this node. */
  readonly rootfs: string
  readonly args: readonly string[]
}

/** A container as lib-shim-v2 runs it: containerd.task.v2 over ttrpc, without a root file system or options in Create. */
export class IsuladContainer {
  readonly id: string = randomBytes(32).toString('hex')
  readonly #options: IsuladContainerOptions
  readonly #update: (tasks: readonly AnnouncedTask[]) => Promise<void>
  readonly #task: AnnouncedTask
  readonly #connection: TtrpcConnection
  readonly #readers: ChildProcess[] = []
  #execs = 0

  static async prepare(
    options: IsuladContainerOptions,
    deps: { readonly update: (tasks: readonly AnnouncedTask[]) => Promise<void> },
  ): Promise<IsuladContainer> {
    const { address } = options.pod
    const path = address.replace(/^(ttrpc\+)?unix:\/\//, '')
    const limits = { ...CALL, timeoutMs: 5000 }
    const connection = await connectTtrpc({ path }, { address, metadata: {} }, { messages: api.ttrpc }, limits)
    return new IsuladContainer(options, { ...deps, connection })
  }

  private constructor(
    options: IsuladContainerOptions,
    deps: {
      readonly update: (tasks: readonly AnnouncedTask[]) => Promise<void>
      readonly connection: TtrpcConnection
    },
  ) {
    this.#options = options
    this.#update = deps.update
    this.#connection = deps.connection
    this.#task = {
      task_id: this.id,
      spec: this.#spec(),
      rootfs: [{ type: 'bind', source: options.rootfs, options: [] }],
      stdin: '',
      stdout: join(this.#bundle, 'stdout'),
      stderr: join(this.#bundle, 'stderr'),
      processes: [],
    }
  }

  async create(): Promise<number> {
    const { task_id: id, stdout, stderr } = this.#task
    await mkdir(this.#bundle, { recursive: true })
    await writeFile(join(this.#bundle, 'config.json'), JSON.stringify(this.#task.spec))
    await this.#openFifos(stdout, stderr)
    await this.#announce([...this.#others, this.#task])
    const request = { id, bundle: this.#bundle, terminal: false, stdin: '', stdout, stderr }
    return (await this.#call('Create', methods.Create, request)).pid
  }

  async start(): Promise<number> {
    return (await this.#call('Start', methods.Start, { id: this.id })).pid
  }

  async state(): Promise<string> {
    return (await this.#call('State', methods.State, { id: this.id })).status
  }

  async pids(): Promise<number[]> {
    const { processes } = await this.#call('Pids', methods.Pids, { id: this.id })
    return processes.map(({ pid }) => pid)
  }

  /** Resolves with the exit code. */
  async wait(): Promise<number> {
    return (await this.#call('Wait', methods.Wait, { id: this.id })).exit_status
  }

  /** Runs a command to its end, and returns its exit code; the sandboxer is told before and after. */
  async exec(args: readonly string[]): Promise<number> {
    this.#execs += 1
    const execId = `exec-${this.#execs}`
    const process = { ...this.#spec().process, args }
    const announced = { exec_id: execId, spec: process, stdin: '', stdout: '', stderr: '' }
    await this.#announce([...this.#others, { ...this.#task, processes: [announced] }])
    const spec = { type_url: PROCESS_TYPE, value: Buffer.from(JSON.stringify(process)) }
    const exec = { id: this.id, exec_id: execId }
    await this.#call('Exec', methods.Exec, { ...exec, spec })
    await this.#call('Start', methods.Start, exec)
    const { exit_status: exitCode } = await this.#call('Wait', methods.Wait, exec)
    await this.#call('Delete', methods.Delete, exec)
    await this.#announce([...this.#others, this.#task])
    return exitCode
  }

  /** The stop signal, and SIGKILL when that did not end it in time. */
  async stop(graceMs: number): Promise<number> {
    const exit = this.wait()
    await this.#call('Kill', methods.Kill, { id: this.id, signal: SIGTERM })
    const timer = setTimeout(() => {
      void this.#call('Kill', methods.Kill, { id: this.id, signal: SIGKILL }).catch(() => undefined)
    }, graceMs)
    try {
      return await exit
    } finally {
      clearTimeout(timer)
    }
  }

  /** Deletes the task, takes it off the list, and asks the Task service to end, as after every container. */
  async remove(): Promise<void> {
    await this.#call('Delete', methods.Delete, { id: this.id })
    await this.#announce(this.#others)
    await this.#call('Shutdown', methods.Shutdown, { id: this.id })
    this.close()
  }

  /** All that it has printed, when it has ended. */
  async output(): Promise<string> {
    await Promise.all(this.#readers.map(async (reader) => reader.exitCode ?? once(reader, 'close')))
    return readFile(join(this.#bundle, 'stdout.log'), 'utf8')
  }

  close(): void {
    this.#connection[Symbol.dispose]()
    for (const reader of this.#readers) reader.kill('SIGKILL')
  }

  get #bundle(): string {
    return join(this.#options.dir, 'runtime', this.id)
  }

  /** The pod's other containers. */
  get #others(): AnnouncedTask[] {
    return this.#options.pod.tasks.filter(({ task_id: id }) => id !== this.id)
  }

  async #announce(tasks: readonly AnnouncedTask[]): Promise<void> {
    await this.#update(tasks)
  }

  async #openFifos(...paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      await runOk('mkfifo', [path], { timeoutMs: 5000 })
      this.#readers.push(spawn('/bin/sh', ['-c', 'exec cat "$0" > "$0.log"', path], { stdio: 'ignore' }))
    }
  }

  async #call<Q extends object, A extends object>(name: string, method: ClientMethod<Q, A>, request: Q): Promise<A> {
    return this.#connection.call('containerd.task.v2.Task', name, method, request, CALL)
  }

  #spec() {
    const { pod, rootfs, args, cgroupParent } = this.#options
    const joined = ['network', 'ipc', 'uts'].map((type) => {
      return { type, path: `/proc/${pod.pid}/ns/${type === 'network' ? 'net' : type}` }
    })
    return {
      ociVersion: '1.0.2',
      process: { user: { uid: 0, gid: 0 }, args, env: ['PATH=/bin'], cwd: '/' },
      root: { path: rootfs },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
      ],
      linux: { cgroupsPath: join(cgroupParent, this.id), namespaces: [...joined, { type: 'pid' }, { type: 'mount' }] },
    }
  }
}
