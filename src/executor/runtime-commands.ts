import { basename } from 'node:path'
import { waitFor } from '../core/deadline.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import { ExecError } from '../host/programs/outcome.ts'
import type { Programs } from '../host/programs/programs.ts'
import { readFeatures } from './features.ts'
import { runtimeMessage } from './runtime-message.ts'
import type { ContainerRecord, RuntimeFeatures } from './types.ts'

interface RunOptions {
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
}

/** The command lines of OCI runtimes. */
export class RuntimeCommands {
  readonly #timeoutMs: number
  readonly #programs: Programs
  readonly #observer: Observer
  readonly #features = new Map<string, Promise<RuntimeFeatures>>()

  constructor(
    options: { readonly timeoutMs: number },
    deps: { readonly programs: Programs; readonly observer?: Observer | undefined },
  ) {
    this.#timeoutMs = options.timeoutMs
    this.#programs = deps.programs
    this.#observer = deps.observer ?? UNOBSERVED
  }

  /** @throws CodedError `Internal` with what the runtime said. */
  async run(
    record: ContainerRecord,
    args: readonly string[],
    signal: AbortSignal,
    options: RunOptions = {},
  ): Promise<void> {
    return this.observed(record, args[0] ?? '', () => this.#run(record, args, signal, options))
  }

  /** Has a command of a runtime observed that somebody else runs: its monitor, say. */
  async observed<T>({ id, runtime }: ContainerRecord, command: string, work: () => Promise<T>): Promise<T> {
    return this.#observer.run({ kind: 'runtime', name: command, runtime: basename(runtime.path), id }, work)
  }

  async #run(
    record: ContainerRecord,
    args: readonly string[],
    signal: AbortSignal,
    options: RunOptions,
  ): Promise<void> {
    const { path, root, systemdCgroup } = record.runtime
    const all = ['--root', root, ...(systemdCgroup ? ['--systemd-cgroup'] : []), ...args]
    const { env = {}, timeoutMs = this.#timeoutMs } = options
    const result = await this.#programs.run(path, all, { env, timeoutMs, signal })
    if (result.exitCode === 0) return
    const why = runtimeMessage(result.stderr || result.stdout) || `exit code ${result.exitCode}`
    throw new ExecError('Internal', `${path} ${args.join(' ')}: ${why}`, {
      exitCode: result.exitCode,
      stderr: result.stderr,
    })
  }

  /** What a runtime can do. It is asked once. @throws CodedError when it cannot be run. */
  async features(runtimePath: string, signal: AbortSignal): Promise<RuntimeFeatures> {
    let asked = this.#features.get(runtimePath)
    if (!asked) {
      asked = readFeatures(this.#programs, runtimePath)
      this.#features.set(runtimePath, asked)
      asked.catch(() => this.#features.delete(runtimePath))
    }
    return waitFor(asked, signal)
  }
}
