import { setMaxListeners } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect } from 'vitest'
import { ContainerLogs } from '../../../src/executor/attach/logs.ts'
import { ConmonExecutor } from '../../../src/executor/conmon-executor.ts'
import { ExitWatch } from '../../../src/executor/exit-watch.ts'
import type { ContainerIo, ContainerRecord } from '../../../src/executor/types.ts'
import { cgroupMounts } from '../../../src/host/cgroup/cgroup.ts'
import { loadDescriptors } from '../../../src/host/descriptors.ts'
import { loadLibc } from '../../../src/host/libc.ts'
import { listPids, type ProcessIdentity, readBootId, readStat } from '../../../src/host/process.ts'
import { Programs } from '../../../src/host/programs/programs.ts'
import { Relay } from '../../../src/host/relay/relay.ts'

export const RUNTIMES = ['/usr/bin/crun', '/usr/sbin/runc'].filter((path) => existsSync(path))
/** Another's tests may run at the same time. */
const CGROUP_PARENT = `/sandboxerd-test-executor-${process.pid}`
const APPLETS = [
  'sh',
  'sleep',
  'true',
  'cat',
  'head',
  'yes',
  'setsid',
  'dd',
  'printf',
  'tty',
  'env',
  'kill',
  'id',
  'ls',
  'sha256sum',
  'stty',
  'tail',
  'tee',
]
const CAPABILITIES = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SETUID', 'CAP_SETGID', 'CAP_KILL', 'CAP_AUDIT_WRITE']
/** PID 1 here reaps orphans after 1–2 s. */
const PATIENCE_MS = 8000

export interface TestContainer {
  readonly record: ContainerRecord
  readonly process: ProcessIdentity
  readonly logPath: string
}

export interface ContainerWish {
  readonly args?: readonly string[]
  readonly io?: Partial<ContainerIo>
  readonly resources?: object
  /** Members of the process in config.json. */
  readonly process?: object
  readonly hostPid?: boolean
  readonly hooks?: object
}

/** An executor with containers of busybox, and nothing else of a daemon. */
export class ExecutorBench implements AsyncDisposable {
  readonly dir: string
  readonly programs = new Programs()
  readonly exits: ExitWatch
  readonly logs = new ContainerLogs({ timeoutMs: 10_000 })
  readonly relay = new Relay({ descriptors: loadDescriptors() })
  readonly executor: ConmonExecutor
  readonly bootId = readBootId()
  readonly signal = new AbortController().signal
  readonly #records: ContainerRecord[] = []
  #count = 0

  private constructor(dir: string) {
    this.dir = dir
    setMaxListeners(0, this.signal)
    const options = { directory: join(dir, 'exits'), bootId: this.bootId }
    this.exits = new ExitWatch(options, { logger: pino({ level: 'silent' }) })
    this.executor = new ConmonExecutor(
      {
        conmonPath: '/usr/bin/conmon',
        exitsDir: join(dir, 'exits'),
        runtimeTimeoutMs: 30_000,
        bootId: this.bootId,
        criuPath: '/usr/sbin/criu',
      },
      {
        libc: loadLibc(),
        programs: this.programs,
        exits: this.exits,
        logs: this.logs,
        relay: this.relay,
        descriptors: loadDescriptors(),
      },
    )
  }

  static async make(): Promise<ExecutorBench> {
    const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-executor-'))
    await Promise.all(['exits', 'logs'].map((path) => mkdirs(dir, path)))
    await makeRootfs(dir)
    return new ExecutorBench(dir)
  }

  /** What a daemon has that was started after this one; to be closed. */
  another(): ExecutorBench {
    return new ExecutorBench(this.dir)
  }

  /** A container that was created, and not started. */
  async created(runtime: string, wish: ContainerWish = {}): Promise<TestContainer> {
    const id = `${process.pid.toString(16)}${(this.#count++).toString(16)}`.padEnd(64, 'e')
    const bundleDir = join(this.dir, 'bundles', id)
    await mkdir(bundleDir, { recursive: true })
    const root = join(this.dir, 'runtime')
    const record = await this.executor.plan({
      id,
      runtime: { path: runtime, root, systemdCgroup: false },
      bundleDir,
      cgroupsPath: `${CGROUP_PARENT}/${id}`,
    })
    this.#records.push(record)
    await writeFile(join(bundleDir, 'config.json'), JSON.stringify(containerSpec(this.dir, record, wish)))
    const logPath = join(this.dir, 'logs', `${id}.log`)
    const io = { terminal: false, stdin: false, stdinOnce: false, logPath, logMaxBytes: 0, ...wish.io }
    return { record, logPath, process: await this.executor.create(record, this.signal, io) }
  }

  async started(runtime: string, wish: ContainerWish = {}): Promise<TestContainer> {
    const container = await this.created(runtime, wish)
    await this.executor.start(container.record, this.signal)
    return container
  }

  async exec(
    container: TestContainer,
    command: readonly string[],
    limits: { timeoutMs?: number; maxOutputBytes?: number; signal?: AbortSignal } = {},
  ): Promise<{ exitCode: number; stdout: string; stderr: string }> {
    const request = { command, timeoutMs: limits.timeoutMs ?? 20_000, maxOutputBytes: limits.maxOutputBytes ?? 1 << 20 }
    const { exitCode, stdout, stderr } = await this.executor.execSync(
      container.record,
      request,
      limits.signal ?? this.signal,
    )
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() }
  }

  /** The end of the container, as an exit code. */
  async exitCode({ record, process }: TestContainer): Promise<number> {
    return (await this.executor.wait(record, process, this.signal)).code
  }

  /** The pid of the container's monitor. */
  async monitor({ record }: TestContainer): Promise<number> {
    return Number(await readFile(join(record.bundleDir, 'conmon.pid'), 'utf8'))
  }

  /** Removes all containers of the test, and expects that nothing is left of them. */
  async clear(): Promise<void> {
    for (const record of this.#records.splice(0)) {
      await this.executor.delete(record, this.signal)
      await rm(record.bundleDir, { recursive: true })
      expect(readdirSync(join(this.dir, 'exits'))).not.toContain(record.id)
    }
    await expect.poll(() => this.#remains(), { timeout: PATIENCE_MS }).toEqual([])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
    await rm(this.dir, { recursive: true })
  }

  /** Ends what a daemon would, and leaves the containers alone. */
  async close(): Promise<void> {
    this.exits[Symbol.dispose]()
    await this.logs[Symbol.asyncDispose]()
    await this.programs[Symbol.asyncDispose]()
    await this.relay[Symbol.asyncDispose]()
  }

  #remains(): string[] {
    const cgroups = cgroupMounts()
      .map((mount) => join(mount, CGROUP_PARENT))
      .filter((path) => existsSync(path))
    const states = existsSync(join(this.dir, 'runtime')) ? readdirSync(join(this.dir, 'runtime')) : []
    const processes = pidsNaming(this.dir)
    return [...cgroups, ...states, ...processes.map((pid) => `process ${pid}`)]
  }
}

/** What a container of busybox is made of. @param dir see {@link makeRootfs}. */
export function containerSpec(dir: string, record: Pick<ContainerRecord, 'cgroupsPath'>, wish: ContainerWish): object {
  const namespaces = ['mount', 'uts', 'ipc', 'network', ...(wish.hostPid ? [] : ['pid'])].map((type) => ({ type }))
  const set = CAPABILITIES
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: wish.io?.terminal ?? false,
      user: { uid: 0, gid: 0 },
      args: wish.args ?? ['sleep', '1000'],
      env: ['PATH=/bin', 'KIND=test'],
      cwd: '/',
      capabilities: { bounding: set, effective: set, permitted: set, inheritable: [], ambient: [] },
      noNewPrivileges: true,
      oomScoreAdj: 500,
      ...wish.process,
    },
    root: { path: join(dir, 'rootfs'), readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance'] },
    ],
    ...(wish.hooks ? { hooks: wish.hooks } : {}),
    linux: {
      namespaces,
      cgroupsPath: record.cgroupsPath,
      resources: { devices: [{ allow: true, access: 'rwm' }], ...wish.resources },
    },
  }
}

/** A root file system with busybox, as `rootfs` of a directory. */
export async function makeRootfs(dir: string): Promise<void> {
  await Promise.all(['bin', 'proc', 'dev'].map((path) => mkdirs(dir, join('rootfs', path))))
  await copyFile('/bin/busybox', join(dir, 'rootfs/bin/busybox'))
  await Promise.all(APPLETS.map((name) => symlink('busybox', join(dir, 'rootfs/bin', name))))
}

/** The living processes of which the command line has this text in it. */
export function pidsNaming(text: string): number[] {
  return listPids().filter((pid) => {
    try {
      const state = readStat(pid)?.state
      return pid !== process.pid && state !== 'Z' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
    } catch {
      return false
    }
  })
}

/** The lines of a log in the CRI's format. */
export async function readLog(path: string): Promise<{ stream: string; tag: string; text: string }[]> {
  const lines = (await readFile(path, 'utf8')).split('\n').slice(0, -1)
  return lines.map((line) => {
    const [, stream = '', tag = '', text = ''] = /^\S+ (stdout|stderr) ([FP]) (.*)$/s.exec(line) ?? []
    return { stream, tag, text }
  })
}

/** What was printed to a stream: partial lines belong together. */
export async function logged(path: string, stream: string): Promise<string> {
  const lines = (await readLog(path)).filter((line) => line.stream === stream)
  return lines.map(({ tag, text }) => (tag === 'F' ? `${text}\n` : text)).join('')
}

async function mkdirs(dir: string, path: string): Promise<void> {
  await mkdir(join(dir, path), { recursive: true })
}
