// A container at the Task service of a sandbox, as a front end makes it.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { TaskConnections } from '../../dist/executor/task/task-services.js'
import { loadShimApi } from '../../dist/grpc/load.js'
import { must, randomId, unheeded } from './trial.mjs'

const run = promisify(execFile)
const MOUNT_MS = 10_000
const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process'
const TASKS_TYPE = 'github.com/containerd/containerd/Tasks'

export class Container {
  #id
  #bundle
  #rootfs
  #trial
  #sandboxId
  #tasks
  #spec
  #announced
  #execs = 0

  /** Its bundle; nothing is made at the sandboxer yet. */
  static async prepare(trial, { id: sandboxId, pid, address, version }, script, { mounted = false } = {}) {
    must(address !== '', 'Start tells of no Task service')
    const container = new Container()
    const id = randomId()
    const bundle = await mkdtemp(join(tmpdir(), 'sbx-bundle-'))
    trial.afterwards(() => rm(bundle, { recursive: true, force: true }))
    const rootfs = join(bundle, 'rootfs')
    await mkdir(rootfs)
    container.#announced = trial.options.announce || version < 3
    container.#trial = trial
    container.#id = id
    container.#sandboxId = sandboxId
    container.#bundle = bundle
    container.#tasks = services(trial).at({ address, version })
    container.#rootfs = []
    if (mounted || container.#announced) await mountReadOnly(trial, rootfs)
    else container.#rootfs = [{ type: 'bind', source: trial.options.rootfs, options: ['bind', 'ro'] }]
    container.#spec = spec(id, script, { pid, rootfs, cgroupParent: trial.options['cgroup-parent'] })
    await writeFile(join(bundle, 'config.json'), JSON.stringify(container.#spec))
    return container
  }

  async create() {
    const { options } = (await this.#trial.request(this.#sandboxId)).runtime
    await this.#announce([])
    const request = { id: this.#id, bundle: this.#bundle, rootfs: this.#rootfs }
    if (options) request.options = { type_url: options.typeUrl, value: options.value }
    this.#trial.beforehand(() => this.#remove())
    await this.#tasks.create(request, this.#call())
  }

  async start() {
    await this.#tasks.start({ id: this.#id }, this.#call())
  }

  async state() {
    return this.#tasks.state({ id: this.#id }, this.#call())
  }

  async pids() {
    return (await this.#tasks.pids({ id: this.#id }, this.#call())).processes
  }

  async stats() {
    return (await this.#tasks.stats({ id: this.#id }, this.#call())).stats ?? { type_url: '' }
  }

  /** Resolves when the container, or a command in it, has ended. */
  wait(execId = '') {
    return unheeded(this.#tasks.wait({ id: this.#id, exec_id: execId }, { ...this.#call(), timeoutMs: 0 }))
  }

  async kill(execId, signal) {
    await this.#tasks.kill({ id: this.#id, exec_id: execId, signal }, this.#call())
  }

  async delete() {
    return this.#tasks.delete({ id: this.#id }, this.#call())
  }

  async shutdown() {
    await this.#tasks.shutdown({ id: this.#id }, this.#call())
  }

  /** Runs a command to its end, and returns its exit code. */
  async exec(script) {
    this.#execs += 1
    const [id, execId] = [this.#id, `exec-${this.#execs}`]
    const spec = { ...this.#spec.process, args: ['/bin/sh', '-c', script] }
    await this.#announce([{ exec_id: execId, spec, stdin: '', stdout: '', stderr: '' }])
    const value = Buffer.from(JSON.stringify(spec))
    await this.#tasks.exec({ id, exec_id: execId, spec: { type_url: PROCESS_TYPE, value } }, this.#call())
    await this.#tasks.start({ id, exec_id: execId }, this.#call())
    const { exit_status: status } = await this.wait(execId)
    await this.#tasks.delete({ id, exec_id: execId }, this.#call())
    await this.#announce([])
    return status
  }

  /** Tells the sandboxer of all that there shall be, where it wants to be told. */
  async #announce(processes) {
    if (!this.#announced) return
    const { runtime } = await this.#trial.request(this.#sandboxId)
    const rootfs = [{ type: 'bind', source: join(this.#bundle, 'rootfs'), options: ['bind', 'ro'] }]
    const task = { task_id: this.#id, spec: this.#spec, rootfs, stdin: '', stdout: '', stderr: '', processes }
    const value = Buffer.from(JSON.stringify({ tasks: [task] }))
    const extensions = { tasks: { typeUrl: TASKS_TYPE, value } }
    await this.#trial.client.update(this.#sandboxId, { runtime, extensions, fields: ['extensions.tasks'] })
  }

  /** It may be gone already, and its sandbox as well. */
  async #remove() {
    await this.kill('', 9).catch(() => undefined)
    await this.#tasks.wait({ id: this.#id }, this.#call()).catch(() => undefined)
    await this.delete().catch(() => undefined)
  }

  #call() {
    return { timeoutMs: this.#trial.options.timeout * 1000, signal: new AbortController().signal }
  }
}

function services(trial) {
  const api = loadShimApi()
  const connections = new TaskConnections({}, { definition: api.containerd.task.v3.Task.service, messages: api.ttrpc })
  trial.afterwards(() => connections[Symbol.dispose]())
  return connections
}

async function mountReadOnly(trial, path) {
  await run('mount', ['--bind', trial.options.rootfs, path], { timeout: MOUNT_MS })
  trial.afterwards(() => run('umount', [path], { timeout: MOUNT_MS }))
  // What the node mounts elsewhere has no business here, nor the other way round.
  await run('mount', ['--make-private', path], { timeout: MOUNT_MS })
  await run('mount', ['-o', 'remount,bind,ro', path], { timeout: MOUNT_MS })
}

/** The least that a container needs, in the namespaces of its sandbox. */
function spec(id, script, { pid, rootfs, cgroupParent }) {
  // Also with pid 0: a sandboxer without a process knows what is meant.
  const joined = ['ipc', 'uts', 'network'].map((type) => {
    return { type, path: `/proc/${pid}/ns/${type === 'network' ? 'net' : type}` }
  })
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args: ['/bin/sh', '-c', script],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      cwd: '/',
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
    ],
    linux: {
      cgroupsPath: cgroupsPath(cgroupParent, id),
      namespaces: [...joined, { type: 'pid' }, { type: 'mount' }],
    },
  }
}

/** As containerd's CRI names it. With systemd the parent is a slice, and the path has colons. */
function cgroupsPath(parent, id) {
  if (parent.endsWith('.slice')) return `${parent.slice(parent.lastIndexOf('/') + 1)}:cri-containerd:${id}`
  return join('/', parent, id)
}
