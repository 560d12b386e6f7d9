import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RunResult } from '../../src/host/programs/outcome.ts'
import { run } from '../../src/host/programs/run.ts'
import { eventually } from './pod-facts.ts'

const CTL = fileURLToPath(new URL('../../dist/sandboxerctl.js', import.meta.url))

/** A daemon under test, or only its directory. */
type Daemon = { readonly dir: string }

/** The words of a command line that calls sandboxerctl for a daemon under test. */
export function ctlCommand({ dir }: Daemon, ...args: readonly string[]): readonly string[] {
  return [process.execPath, CTL, '--config', join(dir, 'config.toml'), ...args]
}

/** Runs sandboxerctl to its end. */
export async function ctl(daemon: Daemon, ...args: readonly string[]): Promise<RunResult> {
  const [file = '', ...rest] = ctlCommand(daemon, ...args)
  return run(file, rest, { timeoutMs: 30_000 })
}

/** What a command prints for people, with what it has against it. */
export async function ctlText(daemon: Daemon, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await ctl(daemon, ...args)
  return stdout + stderr
}

/** What a command answers with `--json`, however it ends. */
export async function ctlJson<T>(daemon: Daemon, ...args: readonly string[]): Promise<T> {
  const { stdout, stderr } = await ctl(daemon, '--json', ...args)
  try {
    return JSON.parse(stdout) as T
  } catch (error) {
    throw new Error(`${args.join(' ')}: ${stdout}${stderr}`, { cause: error })
  }
}

/** A command that goes on until it is told to end, and what it has printed. */
export class GoingCtl implements AsyncDisposable {
  readonly #child: ChildProcess
  #stdout = ''
  #stderr = ''

  constructor(daemon: Daemon, ...args: readonly string[]) {
    const [file = '', ...rest] = this.words(ctlCommand(daemon, ...args))
    this.#child = spawn(file, rest, { stdio: 'pipe', env: { ...process.env, TERM: 'xterm' } })
    this.#child.stdout?.on('data', (data: Buffer) => (this.#stdout += data.toString()))
    this.#child.stderr?.on('data', (data: Buffer) => (this.#stderr += data.toString()))
  }

  get stdout(): string {
    return this.#stdout
  }

  get stderr(): string {
    return this.#stderr
  }

  /** Resolves when what it has printed is as it should be. */
  async until(holds: (ctl: GoingCtl) => boolean): Promise<void> {
    const isSo = await eventually(
      async () => holds(this),
      (so) => so,
      20_000,
    )
    if (!isSo) throw new Error(`sandboxerctl has printed ${this.#stdout}${this.#stderr}`)
  }

  /** Its exit code, once it has ended. */
  async ended(): Promise<number | null> {
    await this.until(() => this.#child.exitCode !== null || this.#child.signalCode !== null)
    return this.#child.exitCode
  }

  interrupt(): void {
    this.#child.kill('SIGINT')
  }

  /** To its standard input, or on its terminal. */
  type(text: string): void {
    this.#child.stdin?.write(text)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.ended()
  }
  protected words(command: readonly string[]): readonly string[] {
    return command
  }
}

/** One that has a terminal. */
export class TerminalCtl extends GoingCtl {
  protected override words(command: readonly string[]): readonly string[] {
    return ['/usr/bin/script', '-qefc', command.join(' '), '/dev/null']
  }
}
