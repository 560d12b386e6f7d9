import { closeSync, existsSync, readlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { abortReason, sleep } from '../core/deadline.ts'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import type { Libc, WaitStatus } from './libc.ts'
import { DEFAULT_PATH } from './outcome.ts'
import { type OutputBudget, OutputReader } from './output-reader.ts'
import { killBelow, type ProcessTree } from './process-tree.ts'

const MAX_PAUSE_MS = 50
/** What a command has written is in its pipes when it has ended, and read at once; a process it left there may go on. */
const DRAIN_MS = 50
/** How often its processes are killed before the program itself is, and the time for it to see that, and to end. */
const KILLS = 3
const KILLED_MS = 150

/** A program that runs a command for us and ends with it: an OCI runtime, or a monitor. */
export interface ExecProgram {
  readonly file: string
  readonly args: readonly string[]
  readonly cwd: string
  /** A file that it reads: written before it is started, gone when it has ended. */
  readonly input: { readonly path: string; readonly text: string }
  /** Where it writes the command's pid as soon as that runs: the sign that it does. Gone when it has ended. */
  readonly pidPath: string
  /** The command inherits it. */
  readonly oomScoreAdj: number
  readonly maxOutputBytes: number
}

export interface ExecEnding {
  /** False: the program could not start its command, and says why on `stderr`. */
  readonly started: boolean
  readonly exitCode: number
  readonly stdout: Uint8Array<ArrayBuffer>
  readonly stderr: Uint8Array<ArrayBuffer>
}

/**
 * Runs a command by way of such a program, and returns when that has ended: processes that the command left in the
 * background may live on and hold its output. On abort all processes of the command are killed.
 *
 * @throws CodedError `Unavailable` when the program cannot be started, `Internal` when a signal ended it, or the abort
 * reason.
 */
export async function execRun(
  libc: Libc,
  program: ExecProgram,
  budget: OutputBudget,
  signal: AbortSignal,
): Promise<ExecEnding> {
  signal.throwIfAborted()
  try {
    writeFileSync(program.input.path, program.input.text, { mode: 0o600 })
    // A daemon that was killed may have left one of that name, and it says that the command was started.
    unlinkIfAny(program.pidPath)
    const child = start(libc, program)
    const pipes = new Set([child.stdout, child.stderr].map((fd) => readlinkSync(`/proc/self/fd/${fd}`)))
    using stdout = new OutputReader(child.stdout, program.maxOutputBytes, budget)
    using stderr = new OutputReader(child.stderr, program.maxOutputBytes, budget)
    const status = await ended(libc, { root: child.pid, pipes }, [stdout, stderr], signal)
    if (signal.aborted) throw abortReason(signal)
    await drain([stdout, stderr])
    if (status?.exitCode === undefined) {
      throw new CodedError('Internal', `run ${program.file}: killed by signal ${status?.signal ?? '(unknown)'}`)
    }
    const started = existsSync(program.pidPath)
    return { started, exitCode: status.exitCode, stdout: stdout.copy(), stderr: stderr.copy() }
  } finally {
    for (const path of [program.input.path, program.pidPath]) unlinkIfAny(path)
  }
}

function start(libc: Libc, program: ExecProgram): { pid: number; stdout: number; stderr: number } {
  const stdout = libc.pipe()
  const stderr = libc.pipe()
  const { file, args, cwd } = program
  try {
    const fds = [null, stdout[1], stderr[1]]
    const pid = libc.spawn({ file, args, env: [`PATH=${DEFAULT_PATH}`], fds, cwd })
    setOomScore(pid, program.oomScoreAdj)
    return { pid, stdout: stdout[0], stderr: stderr[0] }
  } catch (error) {
    for (const fd of [stdout[0], stderr[0]]) closeSync(fd)
    throw new CodedError('Unavailable', `run ${file}: ${errorMessage(error)}`, { cause: error })
  } finally {
    for (const fd of [stdout[1], stderr[1]]) closeSync(fd)
  }
}

/** It has only just been started, and has not got to the point where it starts another. */
function setOomScore(pid: number, value: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(value))
  } catch (error) {
    // Not ours to lower, or it has ended already; it works as well, with the daemon's own.
    if (!['EACCES', 'EPERM', 'ENOENT', 'ESRCH'].includes(errnoOf(error) ?? '')) throw error
  }
}

function unlinkIfAny(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** Waits for the program; on abort, kills. Null: not even that ended it, and somebody else reaps it. */
async function ended(
  libc: Libc,
  tree: ProcessTree,
  readers: readonly OutputReader[],
  signal: AbortSignal,
): Promise<WaitStatus | null> {
  const alarm = new Alarm()
  const wake = (): void => alarm.ring()
  // Whoever closes its output is about to end.
  for (const reader of readers) reader.onClosed(wake)
  signal.addEventListener('abort', wake, { once: true })
  try {
    let isClosed = false
    for (let pause = 1; !signal.aborted; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      const status = libc.reap(tree.root)
      if (status) return status
      if (!isClosed && readers.every((reader) => reader.isClosed)) {
        isClosed = true
        pause = 1
      }
      await alarm.within(pause)
    }
  } finally {
    signal.removeEventListener('abort', wake)
  }
  return kill(libc, tree)
}

async function kill(libc: Libc, tree: ProcessTree): Promise<WaitStatus | null> {
  for (let attempt = 0; attempt < KILLS; attempt++) {
    killBelow(libc, tree)
    const end = performance.now() + KILLED_MS
    for (let pause = 1; performance.now() < end; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      const status = libc.reap(tree.root)
      if (status) return status
      await sleep(pause)
    }
  }
  process.kill(tree.root, 'SIGKILL')
  await sleep(KILLED_MS)
  killBelow(libc, tree)
  return libc.reap(tree.root) ?? abandon(libc, tree.root)
}

/** It cannot even be killed (uninterruptible sleep): nobody waits for that, and it is reaped when it ends. */
function abandon(libc: Libc, pid: number): null {
  const timer = setInterval(() => {
    if (libc.reap(pid)) clearInterval(timer)
  }, 1000)
  timer.unref()
  return null
}

async function drain(readers: readonly OutputReader[]): Promise<void> {
  if (readers.every((reader) => reader.isClosed)) return
  const alarm = new Alarm()
  for (const reader of readers) reader.onClosed(() => readers.every(({ isClosed }) => isClosed) && alarm.ring())
  await alarm.within(DRAIN_MS)
  // On a busy thread the time may pass before anything is read.
  await setImmediate()
}

/** A pause that can be cut short. */
class Alarm {
  #end: (() => void) | undefined

  ring(): void {
    this.#end?.()
  }

  async within(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#end = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#end = undefined
  }
}
