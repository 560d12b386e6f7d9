import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Command {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** Without it the command gets no standard output or error at all: what it leaves behind would keep them open. */
  readonly output?: boolean
}

/** Runs a command to its end, as plainly as Node can. @throws Error when it fails. @returns its standard output. */
export function command(file: string, args: readonly string[], { env, input, output }: Command = {}): Promise<string> {
  const pipe = output ? 'pipe' : 'ignore'
  const child = spawn(file, args, {
    env: env ?? process.env,
    stdio: [input === undefined ? 'ignore' : 'pipe', pipe, pipe],
  })
  child.stdin?.end(input)
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (data: Buffer) => {
    stdout += data.toString()
  })
  child.stderr?.on('data', (data: Buffer) => {
    stderr += data.toString()
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(stdout)
      else
        reject(new Error(`${file} ${args.join(' ')}: ${signal ?? `exit code ${code}`}: ${(stderr || stdout).trim()}`))
    })
  })
}

/** A daemon that the bench has started; what it prints goes to a file. */
export class Daemon {
  readonly #file: string
  readonly #args: readonly string[]
  readonly #logFile: string
  readonly #env: Readonly<Record<string, string | undefined>>
  #child: ChildProcess | undefined

  constructor(options: { file: string; args: readonly string[]; logFile: string; path?: string }) {
    this.#file = options.file
    this.#args = options.args
    this.#logFile = options.logFile
    this.#env = options.path === undefined ? process.env : { ...process.env, PATH: options.path }
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error(`${this.#file} does not run`)
    return pid
  }

  get hasEnded(): boolean {
    const child = this.#child
    return child === undefined || child.exitCode !== null || child.signalCode !== null || child.pid === undefined
  }

  async start(): Promise<void> {
    await using log = await open(this.#logFile, 'a')
    this.#child = spawn(this.#file, this.#args, {
      cwd: '/',
      env: this.#env,
      stdio: ['ignore', log.fd, log.fd],
      // An interrupt from the terminal is for the bench alone, which then has to clear up.
      detached: true,
    })
    // Whoever waits for its socket gets to know.
    this.#child.on('error', (error) => console.error(`bench: ${error.message}`))
  }

  /** Ends it with the signal; when nothing is left of it after a while, with SIGKILL. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (!child || this.hasEnded) return
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve())
    })
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
    await ended
    clearTimeout(timer)
  }

  /** The end of what it printed. */
  logTail(characters = 2000): string {
    return readFileSync(this.#logFile, 'utf8').slice(-characters)
  }
}

/** The program of that name, or an empty text. */
export function findOnPath(name: string): string {
  const dirs = (process.env['PATH'] ?? '').split(delimiter)
  return dirs.map((dir) => join(dir, name)).find(isExecutable) ?? ''
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Whether the process runs; a zombie has ended. */
function runs(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false
  }
}

/** Waits until a process that is not our child has ended. */
export async function ended(pid: number, timeoutMs = 10_000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (runs(pid)) {
    if (performance.now() > end) throw new Error(`process ${pid} still runs after ${timeoutMs} ms`)
    await sleep(1)
  }
}

/** A field of /proc/PID/FILE as a number (of kB, where there is a unit). */
export function procNumber(pid: number, file: 'status' | 'smaps_rollup', field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/${file}`, 'utf8'))
  if (!found?.[1]) throw new Error(`/proc/${pid}/${file} has no ${field}`)
  return Number(found[1])
}
