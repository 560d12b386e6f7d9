import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { aborted, deadline, sleep } from '../../core/deadline.ts'
import type { Libc, WaitStatus } from '../libc.ts'
import {
  DEFAULT_MAX_OUTPUT,
  DEFAULT_PATH,
  killProcessGroup,
  type RunOptions,
  type RunResult,
  toResult,
} from './outcome.ts'
import { PipeReader } from './pipe-reader.ts'

/** From SIGKILL to the end of a program; only one in uninterruptible sleep takes longer. */
const KILLED_MS = 1000

/**
 * Does what `run` of `run.ts` does, by `posix_spawn`: for the programs that run with every pod.
 * The calling thread must not use `node:child_process` for the same children.
 *
 * @throws ExecError as `run` does.
 */
export async function spawnRun(
  libc: Libc,
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  using limit = deadline(`run ${file}`, options.timeoutMs, options.signal)
  limit.signal.throwIfAborted()
  const maxBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT
  const started = start(libc, file, args, options)
  if ('cause' in started) {
    const ending = { exitCode: undefined, signal: undefined, stdout: '', stderr: '', printedTooMuch: false }
    return toResult(file, args, { ...ending, cause: started.cause }, limit.signal)
  }
  const { pid } = started
  using stdout = new PipeReader(started.stdout, maxBytes)
  using stderr = new PipeReader(started.stderr, maxBytes)
  const end = (): void => {
    killProcessGroup(pid)
    // A grandchild that left the group may hold the pipes open: nobody waits for that.
    stdout[Symbol.dispose]()
    stderr[Symbol.dispose]()
  }
  for (const reader of [stdout, stderr]) reader.onData(() => reader.overflowed && end())
  limit.signal.addEventListener('abort', end, { once: true })
  await Promise.all([stdout.closed(), stderr.closed()])
  // One that cannot even be killed is left to be reaped later.
  const status = await Promise.race([ended(libc, pid), longAfter(limit.signal)])
  limit.signal.removeEventListener('abort', end)
  const printedTooMuch = stdout.overflowed || stderr.overflowed
  const texts = { stdout: stdout.text, stderr: stderr.text }
  return toResult(file, args, { ...status, ...texts, printedTooMuch, cause: undefined }, limit.signal)
}

type Started = { readonly pid: number; readonly stdout: number; readonly stderr: number } | { readonly cause: unknown }

/** Starts the program; its input is on the way. */
function start(libc: Libc, file: string, args: readonly string[], { env, input, cwd }: RunOptions): Started {
  const stdin = input === undefined ? null : libc.pipe()
  const stdout = libc.pipe()
  const stderr = libc.pipe()
  const environment = Object.entries({ PATH: DEFAULT_PATH, ...env }).map(([name, value]) => `${name}=${value}`)
  try {
    const fds = [stdin?.[0] ?? null, stdout[1], stderr[1]]
    const pid = libc.spawn({ file, args, env: environment, fds, ...(cwd === undefined ? {} : { cwd }) })
    if (stdin) send(stdin[1], input ?? '')
    return { pid, stdout: stdout[0], stderr: stderr[0] }
  } catch (cause) {
    for (const fd of [stdout[0], stderr[0], ...(stdin ? [stdin[1]] : [])]) closeSync(fd)
    return { cause }
  } finally {
    for (const fd of [stdout[1], stderr[1], ...(stdin ? [stdin[0]] : [])]) closeSync(fd)
  }
}

function send(fd: number, text: string | Uint8Array): void {
  const socket = new Socket({ fd, readable: false, writable: true })
  // A program that does not read its input to the end is free to do so.
  socket.on('error', () => socket.destroy())
  socket.end(text)
}

async function longAfter(signal: AbortSignal): Promise<{ exitCode: undefined; signal: undefined }> {
  await aborted(signal)
  await sleep(KILLED_MS)
  return { exitCode: undefined, signal: undefined }
}

/** A program that has closed its output is about to end, or was killed. */
async function ended(libc: Libc, pid: number): Promise<{ exitCode: number | undefined; signal: string | undefined }> {
  let status: WaitStatus | null = libc.reap(pid)
  for (let pause = 1; !status; pause = Math.min(pause * 2, 50)) {
    await sleep(pause)
    status = libc.reap(pid)
  }
  return { exitCode: status.exitCode, signal: status.signal === undefined ? undefined : `signal ${status.signal}` }
}
