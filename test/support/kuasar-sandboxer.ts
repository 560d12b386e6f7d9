import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type sendUnaryData, type ServerUnaryCall, status } from '@grpc/grpc-js'
import { deadline } from '../../src/core/deadline.ts'
import { CodedError } from '../../src/core/errors.ts'
import { bootstrapShim } from '../../src/executor/shim/bootstrap.ts'
import { TaskConnections } from '../../src/executor/task/task-services.ts'
import type { AnnouncedTask, TaskCall, TaskService } from '../../src/executor/task/types.ts'
import type { ControllerHandlers } from '../../src/generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerUpdateRequest__Output } from '../../src/generated/containerd/services/sandbox/v1/ControllerUpdateRequest.ts'
import type { PodSandboxConfig__Output } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { loadCri, loadShimApi } from '../../src/grpc/load.ts'
import { cgroupMounts, missingAncestors, removeCgroupIfEmpty } from '../../src/host/cgroup/cgroup.ts'
import { run } from '../../src/host/programs/run.ts'
import { ociJson, parseOciJson } from '../../src/oci/json.ts'
import { TtrpcServer, ttrpcMethod } from '../../src/ttrpc/server.ts'
import { ControllerSocket } from './controller-socket.ts'
import { eventually } from './pod-facts.ts'

const { PodSandboxConfig } = loadCri().runtime.v1
const shimApi = loadShimApi()
const Task = shimApi.containerd.task.v3.Task.service
const CALL_MS = 20_000

/** One sandbox: a process that holds its namespaces, a shim for its containers, and what was announced of them. */
interface KuasarSandbox {
  readonly id: string
  readonly dir: string
  readonly config: PodSandboxConfig__Output
  readonly netnsPath: string
  holder: ChildProcess | undefined
  holderPid: number
  task: TaskService | undefined
  server: TtrpcServer | undefined
  exit: { readonly code: number; readonly atMs: number } | undefined
  announced: readonly AnnouncedTask[]
  readonly created: Set<string>
  /** The cgroups above those of its containers that were not there before, the deepest first. */
  readonly cgroups: readonly string[]
  readonly waiters: Set<() => void>
}

export interface KuasarOptions {
  /** Short, and of this sandboxer alone. */
  readonly dir: string
  /** Of a containerd-shim-runc-v2. */
  readonly shim: string
  /** Directories in which the shim finds its OCI runtime. */
  readonly searchPath: string
  /** The ttrpc socket where the shims send their events. */
  readonly eventsAddress: string
}

/**
 * A sandboxer that behaves as those of Kuasar do: version 2 of the Task service over ttrpc, which takes only containers
 * and commands that an Update has announced (`extensions.tasks`), out of a bundle of its own; pid 0 for the process that
 * holds the namespaces, and so `/proc/0/ns/…` in the specs that it is given; Stop and Shutdown of unknown sandboxes are
 * OK; its Platform is "x86". Its Task services go on while its Controller is away.
 */
export class KuasarSandboxer implements AsyncDisposable {
  readonly socketPath: string
  readonly sandboxes = new Map<string, KuasarSandbox>()
  /** Every Update and every call of a Task service that changes something, in order. */
  readonly calls: string[] = []
  readonly #options: KuasarOptions
  readonly #services = new TaskConnections({}, { definition: Task, messages: shimApi.ttrpc })
  readonly #server: ControllerSocket

  constructor(options: KuasarOptions) {
    this.#options = options
    this.socketPath = join(options.dir, 'k.sock')
    this.#server = new ControllerSocket(this.socketPath, this.#handlers())
  }

  static async start(options: KuasarOptions): Promise<KuasarSandboxer> {
    const sandboxer = new KuasarSandboxer(options)
    await sandboxer.listen()
    return sandboxer
  }

  async listen(): Promise<void> {
    await this.#server.listen()
  }

  /** The Controller goes away at once; sandboxes and Task services stay. */
  async close(): Promise<void> {
    await this.#server.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
    for (const sandbox of this.sandboxes.values()) await this.#remove(sandbox)
    this.#services[Symbol.dispose]()
  }

  /** Ends what holds the namespaces of a sandbox. */
  kill(id: string): void {
    const { holderPid = 0, exit } = this.sandboxes.get(id) ?? {}
    if (holderPid > 0 && !exit) process.kill(holderPid, 'SIGKILL')
  }

  #handlers(): ControllerHandlers {
    return {
      Create: unary(async ({ sandbox_id: id, options, netns_path: netnsPath }) => {
        const config = PodSandboxConfig.deserialize(options?.value ?? Buffer.alloc(0))
        const dir = join(this.#options.dir, id.slice(0, 8))
        await mkdir(dir, { recursive: true })
        const cgroups = await missingAncestors(cgroupMounts(), `${config.linux?.cgroup_parent ?? ''}/container`)
        const rest = { cgroups, holder: undefined, holderPid: 0, task: undefined, server: undefined, exit: undefined }
        const sets = { announced: [], created: new Set<string>(), waiters: new Set<() => void>() }
        this.sandboxes.set(id, { id, dir, config, netnsPath, ...rest, ...sets })
        return { sandbox_id: id }
      }),
      Start: unary(async ({ sandbox_id: id }) => {
        const sandbox = this.#get(id)
        await this.#hold(sandbox)
        return { sandbox_id: id, pid: 0, address: await this.#serveTasks(sandbox), version: 2 }
      }),
      Platform: unary(async () => ({ platform: { os: 'linux', architecture: 'x86' } })),
      Stop: unary(async ({ sandbox_id: id }) => {
        const sandbox = this.sandboxes.get(id)
        if (sandbox) await this.#end(sandbox)
        return {}
      }),
      Wait: unary(async ({ sandbox_id: id }) => {
        const sandbox = this.#get(id)
        if (!sandbox.exit) await ended(sandbox)
        return { exit_status: sandbox.exit?.code ?? 0, exited_at: timestamp(sandbox.exit?.atMs) }
      }),
      Status: unary(async ({ sandbox_id: id }) => {
        const { exit, holderPid, dir } = this.#get(id)
        const state = holderPid > 0 && !exit ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY'
        return { sandbox_id: id, state, pid: 0, address: `ttrpc+unix://${dir}/t.sock`, version: 2 }
      }),
      Shutdown: unary(async ({ sandbox_id: id }) => {
        const sandbox = this.sandboxes.get(id)
        if (sandbox) await this.#remove(sandbox)
        return {}
      }),
      Metrics: unary(async () => ({})),
      Update: unary(async (request) => {
        this.#update(request)
        return {}
      }),
    }
  }

  #get(id: string): KuasarSandbox {
    const sandbox = this.sandboxes.get(id)
    if (!sandbox) throw new CodedError('NotFound', `sandbox ${id}`)
    return sandbox
  }

  #update({ sandbox_id: id, sandbox: update, fields }: ControllerUpdateRequest__Output): void {
    if (!fields.includes('extensions.tasks')) return
    const tasks = update?.extensions['tasks']
    if (!tasks || tasks.type_url !== 'github.com/containerd/containerd/Tasks' || !update?.runtime?.name) {
      throw Object.assign(new Error('no tasks'), { code: status.INVALID_ARGUMENT })
    }
    const sandbox = this.#get(id)
    sandbox.announced = (parseOciJson(tasks.value.toString()) as { tasks: AnnouncedTask[] }).tasks
    const names = sandbox.announced.map(({ task_id: name, processes }) => `${name.slice(0, 6)}+${processes.length}`)
    this.calls.push(`Update ${names.join(' ')}`)
  }

  /** A process in namespaces of its own, and in the network that it was given. */
  async #hold(sandbox: KuasarSandbox): Promise<void> {
    const name = sandbox.config.hostname || 'kuasar'
    const inside = ['unshare', '--ipc', '--uts', '--pid', '--fork', '--kill-child', '--', 'sh', '-c']
    const args = [...inside, 'hostname "$0" && exec sleep infinity', name]
    const [file, ...rest] = sandbox.netnsPath === '' ? args : ['nsenter', `--net=${sandbox.netnsPath}`, ...args]
    const holder = spawn(file ?? '', rest, { stdio: 'ignore', detached: true })
    sandbox.holder = holder
    holder.once('exit', () => {
      sandbox.exit = { code: 137, atMs: Date.now() }
      for (const wake of sandbox.waiters) wake()
    })
    sandbox.holderPid = await eventually(
      async () => sleepIn(holder.pid ?? 0),
      (pid) => pid > 0,
      CALL_MS,
    )
  }

  async #serveTasks(sandbox: KuasarSandbox): Promise<string> {
    const socketPath = join(sandbox.dir, 't.sock')
    const server = new TtrpcServer({ socketPath }, { messages: shimApi.ttrpc })
    server.addService('containerd.task.v2.Task', this.#taskMethods(sandbox))
    await server.listen()
    sandbox.server = server
    return `ttrpc+unix://${socketPath}`
  }

  #taskMethods(sandbox: KuasarSandbox): Parameters<TtrpcServer['addService']>[1] {
    const { created } = sandbox
    const shim = (): TaskService => {
      if (!sandbox.task) throw new CodedError('NotFound', 'there is no container yet')
      return sandbox.task
    }
    const note = (what: string): number => this.calls.push(what)
    const all = ({ signal }: { readonly signal: AbortSignal }): TaskCall => ({ timeoutMs: 0, signal })
    const announced = (id: string): AnnouncedTask => {
      const found = sandbox.announced.find(({ task_id: name }) => name === id)
      if (!found) throw new CodedError('InvalidArgument', `container ${id} was not announced`)
      return found
    }
    return {
      Create: ttrpcMethod(Task.Create, async (request, call) => {
        const bundle = await this.#writeBundle(sandbox, announced(request.id))
        sandbox.task ??= await this.#startShim(sandbox, bundle)
        created.add(request.id)
        note(`Create ${request.id.slice(0, 6)}`)
        return sandbox.task.create({ ...request, bundle, rootfs: [] }, all(call))
      }),
      Exec: ttrpcMethod(Task.Exec, async (request, call) => {
        const known = announced(request.id).processes.find(({ exec_id: id }) => id === request.exec_id)
        if (!known) throw new CodedError('InvalidArgument', `command ${request.exec_id} was not announced`)
        note(`Exec ${request.id.slice(0, 6)}`)
        await shim().exec(request, all(call))
        return {}
      }),
      Delete: ttrpcMethod(Task.Delete, async (request, call) => {
        const answer = await shim().delete(request, all(call))
        if (request.exec_id === '') created.delete(request.id)
        note(`Delete ${request.id.slice(0, 6)}${request.exec_id && '+1'}`)
        return answer
      }),
      Start: ttrpcMethod(Task.Start, (request, call) => shim().start(request, all(call))),
      State: ttrpcMethod(Task.State, (request, call) => shim().state(request, all(call))),
      Pids: ttrpcMethod(Task.Pids, (request, call) => shim().pids(request, all(call))),
      Wait: ttrpcMethod(Task.Wait, (request, call) => shim().wait(request, all(call))),
      Stats: ttrpcMethod(Task.Stats, (request, call) => shim().stats(request, all(call))),
      Connect: ttrpcMethod(Task.Connect, (request, call) => shim().connect(request, all(call))),
      Kill: ttrpcMethod(Task.Kill, (request, call) => empty(shim().kill(request, all(call)))),
      ResizePty: ttrpcMethod(Task.ResizePty, (request, call) => empty(shim().resizePty(request, all(call)))),
      CloseIO: ttrpcMethod(Task.CloseIO, (request, call) => empty(shim().closeIo(request, all(call)))),
      Update: ttrpcMethod(Task.Update, (request, call) => empty(shim().update(request, all(call)))),
      Shutdown: ttrpcMethod(Task.Shutdown, async () => ({})),
    }
  }

  /** As in Kuasar, out of what was announced: its bundle, its file system, and the namespaces behind `/proc/0`. */
  async #writeBundle({ dir, holderPid }: KuasarSandbox, { task_id: id, spec, rootfs }: AnnouncedTask): Promise<string> {
    const bundle = join(dir, id)
    await mkdir(bundle, { recursive: true })
    const text = ociJson(spec as object).replaceAll('/proc/0/ns/', `/proc/${holderPid}/ns/`)
    const mine = parseOciJson(text) as { root: object }
    const [mount] = rootfs
    if (mount?.type !== 'bind') throw new CodedError('InvalidArgument', `container ${id} has no root file system`)
    await writeFile(join(bundle, 'config.json'), ociJson({ ...mine, root: { ...mine.root, path: mount.source } }))
    return bundle
  }

  async #startShim({ id, netnsPath }: KuasarSandbox, bundleDir: string): Promise<TaskService> {
    const { shim: binary, searchPath, eventsAddress } = this.#options
    const record = {
      id,
      namespace: 'k8s.io',
      binary,
      bundleDir,
      ownerAddress: this.socketPath,
      eventsAddress,
      options: null,
      netnsPath,
      task: { id, bundleDir },
    }
    using limit = deadline('start a shim', CALL_MS)
    const options = { searchPath, timeoutMs: CALL_MS }
    return this.#services.at(await bootstrapShim(record, options, { run, messages: shimApi }, limit.signal))
  }

  async #end(sandbox: KuasarSandbox): Promise<void> {
    using limit = deadline('end a sandbox', CALL_MS)
    const call = { timeoutMs: 5000, signal: limit.signal }
    for (const id of sandbox.created) {
      await sandbox.task?.kill({ id, signal: 9, all: true }, call).catch(() => undefined)
    }
    this.kill(sandbox.id)
    await eventually(async () => sandbox.exit !== undefined || sandbox.holder === undefined, Boolean, CALL_MS)
  }

  async #remove(sandbox: KuasarSandbox): Promise<void> {
    await this.#end(sandbox)
    using limit = deadline('remove a sandbox', CALL_MS)
    const call = { timeoutMs: 5000, signal: limit.signal }
    for (const id of sandbox.created) {
      await sandbox.task?.wait({ id }, call).catch(() => undefined)
      await sandbox.task?.delete({ id }, call).catch(() => undefined)
    }
    await sandbox.task?.shutdown({ id: sandbox.id, now: true }, call).catch(() => undefined)
    await sandbox.server?.[Symbol.asyncDispose]()
    for (const path of sandbox.cgroups) await removeCgroupIfEmpty(cgroupMounts(), path)
    await rm(sandbox.dir, { recursive: true, force: true })
    this.sandboxes.delete(sandbox.id)
  }
}

async function ended({ waiters }: KuasarSandbox): Promise<void> {
  await new Promise<void>((resolve) => {
    waiters.add(resolve)
  })
}

async function empty(done: Promise<void>): Promise<object> {
  await done
  return {}
}

function unary<Q, A>(serve: (request: Q) => Promise<A>): (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>) => void {
  return ({ request }, done) => {
    void (async () => {
      try {
        done(null, await serve(request))
      } catch (error) {
        done(error instanceof CodedError ? coded(error) : (error as Error))
      }
    })()
  }
}

function coded(error: CodedError): Error {
  const codes: Record<string, status> = { NotFound: status.NOT_FOUND, InvalidArgument: status.INVALID_ARGUMENT }
  return Object.assign(new Error(error.message), { code: codes[error.code] ?? status.UNKNOWN, details: error.message })
}

/** The child of unshare, once it is the program that stays. */
function sleepIn(parent: number): number {
  try {
    const child = Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim())
    return readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'sleep' ? child : 0
  } catch {
    return 0
  }
}

function timestamp(atMs: number | undefined): { seconds: string; nanos: number } | null {
  return atMs === undefined ? null : { seconds: String(Math.floor(atMs / 1000)), nanos: (atMs % 1000) * 1_000_000 }
}
