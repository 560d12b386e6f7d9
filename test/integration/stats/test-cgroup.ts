import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { findHierarchies } from '../../../src/stats/hierarchies.ts'
import { eventually } from '../../support/pod-facts.ts'

/** Moves itself into the cgroups, the directories of which are its arguments, and becomes what follows `--`. */
const ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
const TICKS_PER_SECOND = 100

/** A cgroup in every hierarchy that statistics are read from, with a `nested` one in it. Takes what it runs with it. */
export class TestCgroup implements AsyncDisposable {
  readonly path: string
  readonly #mounts: readonly string[]
  readonly #children: ChildProcess[] = []

  constructor(name: string) {
    this.path = `/sandboxerd-${name}-${process.pid}`
    const { cpuacct, cpu, memory, pids, blkio, unified } = findHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'))
    const mounts = [cpuacct, cpu, memory, pids, blkio].map((controller) => controller?.mount ?? '')
    this.#mounts = [...new Set([...mounts, unified ?? ''])].filter((mount) => mount !== '')
    for (const mount of this.#mounts) {
      const control = join(mount, 'cgroup.subtree_control')
      if (memory?.version === 2 && existsSync(control)) writeFileSync(control, '+cpu +memory +pids')
      mkdirSync(join(mount, this.path, 'nested'), { recursive: true })
    }
  }

  /** Runs a program in it. */
  async run(options: { readonly nested?: boolean; readonly netns?: string }, ...command: readonly string[]) {
    const directories = this.#mounts.map((mount) => join(mount, this.path, options.nested ? 'nested' : ''))
    const enter = ['/bin/sh', '-c', ENTER, 'enter', ...directories, '--', ...command]
    const [file = '', ...args] = options.netns ? ['/usr/bin/nsenter', `--net=${options.netns}`, '--', ...enter] : enter
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#children.push(child)
    await once(child, 'spawn')
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return {
      pid: child.pid ?? 0,
      /** Its next line. */
      line: async (): Promise<string> => ((await lines.next()) as { value?: string }).value ?? '',
    }
  }

  /** Kills what it runs, and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    const directories = this.#mounts.flatMap((mount) => ['nested', ''].map((name) => join(mount, this.path, name)))
    const left = await eventually(
      async () => {
        for (const directory of directories) await rmdir(directory).catch(() => undefined)
        return directories.filter((directory) => existsSync(directory))
      },
      (found) => found.length === 0,
    )
    if (left.length > 0) throw new Error(`cannot remove ${left.join(', ')}`)
  }
}

/** The CPU time that a process has used, in nanoseconds, to the tick. */
export function cpuTimeNs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1e9) / TICKS_PER_SECOND
}

/** A number of `/proc/PID/status`, from kB to bytes. */
export function statusBytes(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024
}
