import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect } from 'vitest'
import { ContainerLogs } from '../../../src/executor/attach/logs.ts'
import { shimOptions } from '../../../src/executor/shim/runtime-options.ts'
import { ShimEvents } from '../../../src/executor/shim/shim-events.ts'
import { Shims } from '../../../src/executor/shim/shims.ts'
import type { ShimRecord } from '../../../src/executor/shim/types.ts'
import { TaskExecutor } from '../../../src/executor/task/task-executor.ts'
import { TaskConnections } from '../../../src/executor/task/task-services.ts'
import type { ContainerIo, TaskEndpoint, TaskRecord } from '../../../src/executor/types.ts'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { cgroupMounts } from '../../../src/host/cgroup/cgroup.ts'
import { loadDescriptors } from '../../../src/host/descriptors.ts'
import { loadLibc } from '../../../src/host/libc.ts'
import { type ProcessIdentity, readBootId } from '../../../src/host/process.ts'
import { Programs } from '../../../src/host/programs/programs.ts'
import { type ContainerWish, containerSpec, makeRootfs, pidsNaming } from './bench.ts'

/** Another's tests may run at the same time. */
const CGROUP_PARENT = `/sandboxerd-test-tasks-${process.pid}`
const PATIENCE_MS = 8000

export interface TestTask {
  readonly record: TaskRecord
  readonly process: ProcessIdentity
  readonly io: ContainerIo
}

/** What a daemon has to run tasks. */
class Daemon implements AsyncDisposable {
  readonly programs = new Programs()
  readonly logs = new ContainerLogs({ timeoutMs: 10_000 })
  readonly services: TaskConnections
  readonly executor: TaskExecutor

  constructor(events: ShimEvents, api: ReturnType<typeof loadShimApi>) {
    const definition = api.containerd.task.v3.Task.service
    this.services = new TaskConnections({}, { definition, messages: api.ttrpc })
    this.executor = new TaskExecutor(
      { bootId: readBootId(), runtimeTimeoutMs: 30_000, callTimeoutMs: 5000 },
      {
        services: this.services,
        events,
        announcer: { announce: async () => undefined },
        programs: this.programs,
        libc: loadLibc(),
        descriptors: loadDescriptors(),
        logs: this.logs,
        api,
        logger: pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
      },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.executor[Symbol.asyncDispose]()
    this.services[Symbol.dispose]()
    await this.logs[Symbol.asyncDispose]()
    await this.programs[Symbol.asyncDispose]()
  }
}

/** A shim with containers of busybox, and nothing else of a daemon. */
export class TaskBench implements AsyncDisposable {
  readonly dir: string
  readonly signal = new AbortController().signal
  readonly #api = loadShimApi()
  readonly #events: ShimEvents
  readonly #shims: Shims
  readonly #records: TaskRecord[] = []
  #daemon: Daemon
  #shim: ShimRecord | undefined
  #endpoint: TaskEndpoint = { address: '', version: 0 }

  private constructor(dir: string, shimPath: string) {
    this.dir = dir
    setMaxListeners(0, this.signal)
    this.#events = new ShimEvents({ socketPath: join(dir, 'events.sock') }, { messages: this.#api })
    this.#daemon = new Daemon(this.#events, this.#api)
    const searchPath = `${join(shimPath, '..')}:/usr/sbin:/usr/bin:/sbin:/bin`
    const { programs, services } = this.#daemon
    const [ownerAddress, bootId] = [join(dir, 'events.sock'), readBootId()]
    const warm = { directory: join(dir, 'shims'), size: 0, ownerAddress, bootId }
    this.#shims = new Shims(
      { ownerAddress, searchPath, runtimeMs: 30_000, callMs: 5000, bootId, warm },
      { run: programs.run, libc: loadLibc(), services, messages: this.#api, logger: pino({ level: 'silent' }) },
    )
  }

  /** @param runtime path of an OCI runtime. */
  static async make(shimPath: string, runtime: string): Promise<TaskBench> {
    const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-tasks-'))
    await makeRootfs(dir)
    await mkdir(join(dir, 'logs'))
    const bench = new TaskBench(dir, shimPath)
    await bench.#events.listen()
    await bench.#startShim(runtime)
    return bench
  }

  get executor(): TaskExecutor {
    return this.#daemon.executor
  }

  get shimPids(): number[] {
    return pidsNaming(this.#shim?.id ?? '-')
  }

  /** As if the daemon had ended, and another been started. */
  async restart(adopted: readonly TestTask[]): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]()
    this.#daemon = new Daemon(this.#events, this.#api)
    for (const { record } of adopted) this.executor.adopt(record)
  }

  /** Ends what a daemon has open, for as long as this goes on. */
  async away(adopted: readonly TestTask[], work: () => Promise<void>): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]()
    try {
      await work()
    } finally {
      this.#daemon = new Daemon(this.#events, this.#api)
      for (const { record } of adopted) this.executor.adopt(record)
    }
  }

  /** A container that was created, and not started. */
  async created(wish: ContainerWish = {}): Promise<TestTask> {
    const record = await this.planned(wish)
    const logPath = join(this.dir, 'logs', `${record.id}.log`)
    const io = { terminal: false, stdin: false, stdinOnce: false, logPath, logMaxBytes: 0, ...wish.io }
    return { record, io, process: await this.executor.create(record, this.signal, io) }
  }

  /** Its bundle, and nothing at the shim. */
  async planned(wish: ContainerWish = {}): Promise<TaskRecord> {
    const id = randomBytes(32).toString('hex')
    const bundleDir = join(this.dir, 'bundles', id)
    await mkdir(bundleDir, { recursive: true })
    const record: TaskRecord = {
      id,
      sandboxId: this.#shim?.id ?? '',
      endpoint: this.#endpoint,
      announced: false,
      bundleDir,
      cgroupsPath: `${CGROUP_PARENT}/${id}`,
      options: this.#shim?.options ?? null,
    }
    this.#records.push(record)
    await writeFile(join(bundleDir, 'config.json'), JSON.stringify(containerSpec(this.dir, record, wish)))
    return record
  }

  async started(wish: ContainerWish = {}): Promise<TestTask> {
    const task = await this.created(wish)
    await this.executor.start(task.record, this.signal)
    return task
  }

  /** The end of the container, as an exit code. */
  async exitCode({ record, process: first }: TestTask): Promise<number> {
    return (await this.executor.wait(record, first, this.signal)).code
  }

  async exec(
    { record }: TestTask,
    command: readonly string[],
    limits: { timeoutMs?: number; maxOutputBytes?: number } = {},
  ): Promise<{ exitCode: number; stdout: string; stderr: string }> {
    const request = { command, timeoutMs: limits.timeoutMs ?? 20_000, maxOutputBytes: limits.maxOutputBytes ?? 1 << 20 }
    const { exitCode, stdout, stderr } = await this.executor.execSync(record, request, this.signal)
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() }
  }

  /** Removes all containers of the test, and expects that nothing is left of them. */
  async clear(): Promise<void> {
    for (const record of this.#records.splice(0)) {
      await this.executor.delete(record, this.signal)
      // Of a shim, which leaves its own there.
      const ours = readdirSync(record.bundleDir).filter((name) => /fifo|^io\.json|^exec-|^started|^stdin/.test(name))
      expect(ours).toEqual([])
      await rm(record.bundleDir, { recursive: true })
    }
    await expect.poll(() => this.#remains(), { timeout: PATIENCE_MS }).toEqual([])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#shim) await this.#shims.delete(this.#shim, null, this.signal)
    for (const mount of cgroupMounts()) await rmdir(join(mount, CGROUP_PARENT)).catch(() => undefined)
    await this.#daemon[Symbol.asyncDispose]()
    await this.#events[Symbol.asyncDispose]()
    await rm(this.dir, { recursive: true })
  }

  async #startShim(runtime: string): Promise<void> {
    const id = randomBytes(32).toString('hex')
    const bundleDir = join(this.dir, 'bundles', id)
    await mkdir(bundleDir, { recursive: true })
    await writeFile(join(bundleDir, 'config.json'), JSON.stringify(containerSpec(this.dir, { cgroupsPath: id }, {})))
    const runtimeType = 'io.containerd.runc.v2'
    const runtimeRoot = join(this.dir, 'runtime')
    const options = shimOptions(
      { runtimeType, runtime, runtimeRoot, runtimeConfig: '', systemdCgroup: false },
      this.#api,
    )
    const eventsAddress = join(this.dir, 'events.sock')
    const namespace = 'k8s.io'
    const plan = { id, runtimeType, namespace, bundleDir, eventsAddress, netnsPath: '', options }
    this.#shim = await this.#shims.plan(plan)
    this.#endpoint = (await this.#shims.start(this.#shim, this.signal)).endpoint
  }

  #remains(): string[] {
    const states = join(this.dir, 'runtime', 'k8s.io')
    const cgroups = cgroupMounts()
      .map((mount) => join(mount, CGROUP_PARENT))
      .flatMap((path) => (existsSync(path) ? readdirSync(path, { withFileTypes: true }) : []))
      .filter((entry) => entry.isDirectory())
    return [...(existsSync(states) ? readdirSync(states) : []), ...cgroups.map(({ name }) => name)]
  }
}
