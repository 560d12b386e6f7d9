import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run, runOk } from '../../../src/host/programs/run.ts'
import { deadline, sleep } from '../../../src/core/deadline.ts'
import { readCgroupMode } from '../../../src/host/cgroup/cgroup-mode.ts'
import { ociJson } from '../../../src/oci/json.ts'
import type { Spec } from '../../../src/oci/spec.ts'

const CATATONIT = '/usr/bin/catatonit'
const TIMEOUT = { timeoutMs: 20_000 }

export const CGROUP_PARENT = `/sandboxerd-test-oci-${process.pid}`

/** Why the tests cannot run on this machine; undefined when they can. */
export function whyNot(runtime: string): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  for (const file of [runtime, CATATONIT]) if (!existsSync(file)) return `${file} is not installed`
  return undefined
}

/** A directory with a pause root file system, the runtimes' state and the bundles; disposing it leaves nothing behind. */
export async function pauseBench(): Promise<PauseBench> {
  const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-oci-'))
  // A pause process with an ordinary user has to reach its program.
  await chmod(dir, 0o755)
  const rootfs = join(dir, 'rootfs')
  for (const name of ['proc', 'dev', 'sys']) await mkdir(join(rootfs, name), { recursive: true })
  await copyFile(CATATONIT, join(rootfs, 'pause'))
  await chmod(join(rootfs, 'pause'), 0o755)
  return new PauseBench(dir, rootfs)
}

export class PauseBench {
  readonly dir: string
  readonly rootfs: string

  constructor(dir: string, rootfs: string) {
    this.dir = dir
    this.rootfs = rootfs
  }

  /** Creates and starts a container, hands its pid to `look`, and removes it whatever happens. */
  async withPause(runtime: string, id: string, spec: Spec, look: (pid: number) => Promise<void>): Promise<void> {
    await this.withContainer(runtime, id, spec, 'pause', look)
  }

  /** Like {@link withPause}, for any program; `name` is what the kernel calls it when it has got where it is waited for. */
  async withContainer(
    runtime: string,
    id: string,
    spec: Spec,
    name: string,
    look: (pid: number) => Promise<void>,
  ): Promise<void> {
    const bundle = join(this.dir, id)
    await mkdir(bundle)
    await writeFile(join(bundle, 'config.json'), ociJson(spec))
    const pidFile = join(bundle, 'pid')
    const command = (args: readonly string[]) => runtimeArgs(this.dir, runtime, args)
    try {
      await create(join(bundle, 'log'), runtime, command(['create', '--bundle', bundle, '--pid-file', pidFile, id]))
      await runOk(runtime, command(['start', id]), TIMEOUT)
      const pid = Number.parseInt(await readFile(pidFile, 'utf8'), 10)
      await hasExecuted(pid, name)
      await look(pid)
      await runOk(runtime, command(['kill', id, 'SIGKILL']), TIMEOUT)
    } finally {
      await run(runtime, command(['delete', '-f', id]), TIMEOUT)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true })
    await removeCgroups()
  }
}

/** The arguments that make a runtime work in a bench's directory. */
export function runtimeArgs(dir: string, runtime: string, args: readonly string[]): string[] {
  return ['--root', join(dir, `state-${runtime.replaceAll('/', '_')}`), ...args]
}

/** `start` only lets the runtime's process go on: it becomes the program a little later. */
async function hasExecuted(pid: number, name: string): Promise<void> {
  using limit = deadline(`wait for ${name}`, 10_000)
  while ((await readFile(`/proc/${pid}/comm`, 'utf8')).trim() !== name) await sleep(2, limit.signal)
}

/** The container keeps the output of `create` open as its own, so that has to be a file: a pipe would never end. */
async function create(log: string, runtime: string, args: readonly string[]): Promise<void> {
  const { exitCode } = await run('/bin/sh', ['-c', 'exec "$@" >"$0" 2>&1', log, runtime, ...args], TIMEOUT)
  if (exitCode !== 0) throw new Error(`${runtime} ${args.join(' ')}: ${await readFile(log, 'utf8')}`)
}

async function removeCgroups(): Promise<void> {
  const root = '/sys/fs/cgroup'
  const hierarchies = readCgroupMode() === 'v2' ? [root] : (await readdir(root)).map((name) => join(root, name))
  for (const hierarchy of hierarchies) {
    const path = join(hierarchy, CGROUP_PARENT)
    if (existsSync(path)) await rmdir(path)
  }
}

/** The fields of /proc/PID/status, white space made single. */
export async function processStatus(pid: number): Promise<Map<string, string>> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return new Map(
    text.split('\n').map((line) => {
      const [name = '', value = ''] = line.split(':', 2)
      return [name, value.trim().replaceAll(/\s+/g, ' ')] as const
    }),
  )
}
