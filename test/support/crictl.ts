import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { runOk } from '../../src/host/programs/run.ts'
import type { TestDaemon } from './daemon.ts'
import { onPath } from './on-path.ts'

/** What crictl says of a daemon under test. */
export interface Crictl {
  (...args: readonly string[]): Promise<string>
  json(...args: readonly string[]): Promise<Record<string, unknown>>
}

/** Whether there is a crictl; a test that is skipped for want of it says nothing by itself, so this says it. */
export function hasCrictl(): boolean {
  if (onPath('crictl') !== undefined) return true
  process.emitWarning('crictl is not on PATH: what it says of the daemon is not tested')
  return false
}

export function crictlOf(daemon: () => TestDaemon): Crictl {
  const text = async (...args: readonly string[]): Promise<string> => {
    const [program, ...all] = crictlCommand(daemon(), args)
    const { stdout } = await runOk(program, all, { timeoutMs: 40_000 })
    return stdout.trim()
  }
  const json = async (...args: readonly string[]): Promise<Record<string, unknown>> =>
    JSON.parse(await text(...args)) as Record<string, unknown>
  return Object.assign(text, { json })
}

/** A crictl that somebody talks to while it runs. Disposing of it kills it. */
export interface CrictlSession extends AsyncDisposable {
  /** That of crictl; with a terminal, of the program that gives it one. */
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: Readable
  /** All of its standard error up to now. */
  stderr(): string
  /** Its exit code; null when a signal has ended it. */
  readonly ended: Promise<number | null>
  /** Kills crictl outright, and resolves when it is gone. */
  kill(): Promise<void>
}

/** Starts crictl on the node of the daemon, whose streaming server listens on the loopback there. */
export function startCrictl(daemon: TestDaemon, ...args: readonly string[]): CrictlSession {
  return session(daemon, crictlCommand(daemon, args))
}

/** The same on a terminal of its own, from which all its output comes. */
export function startCrictlOnTerminal(daemon: TestDaemon, ...args: readonly string[]): CrictlSession {
  const command = crictlCommand(daemon, args)
    .map((arg) => `'${arg}'`)
    .join(' ')
  return session(daemon, ['script', '--quiet', '--return', '--flush', '--command', command, '/dev/null'])
}

function crictlCommand(daemon: TestDaemon, args: readonly string[]): [string, ...string[]] {
  // No configuration of this machine's.
  const options = ['--config', '/dev/null', '--timeout', '30s']
  return [
    onPath('crictl') ?? 'crictl',
    ...options,
    '--runtime-endpoint',
    `unix://${join(daemon.dir, 'cri.sock')}`,
    ...args,
  ]
}

const running = new Set<ChildProcess>()
// A test run that is cut short takes its clients with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

function session(daemon: TestDaemon, command: readonly string[]): CrictlSession {
  const child = spawn('/usr/bin/nsenter', [`--net=/run/netns/${daemon.node}`, ...command], {
    env: { PATH: process.env['PATH'], SHELL: '/bin/sh', TERM: 'dumb' },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  running.add(child)
  let stderr = ''
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString()
  })
  // Whoever writes to one that has ended finds out by its exit code.
  child.stdin.on('error', () => undefined)
  const ended = once(child, 'exit').then(([code]) => {
    running.delete(child)
    return code as number | null
  })
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  return {
    pid: child.pid ?? 0,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: () => stderr,
    ended,
    kill,
    [Symbol.asyncDispose]: kill,
  }
}
