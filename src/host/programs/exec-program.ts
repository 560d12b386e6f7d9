import { closeSync, existsSync, readlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { abortReason, sleep } from '../../core/deadline.ts'
import { CodedError, errnoOf, errorMessage } from '../../core/errors.ts'
import type { Libc, WaitStatus } from '../libc.ts'
import { DEFAULT_PATH } from './outcome.ts'
import { PipeReader } from './pipe-reader.ts'
import { killBelow, type ProcessTree } from './process-tree.ts'

const MAX_PAUSE_MS = 50
/** How often it is asked whether it has ended, in case that another process keeps the sign of that from us. */
const LOOK_MS = 1000
/** How often its processes are killed before the program itself is, and the time for it to see that, and to end. */
const KILLS = 3
const KILLED_MS = 150
/** The program keeps this open until it ends. conmon also writes to it, and keeps it from the runtime. */
const LIFE_FD = 3
const MAX_LIFE_BYTES = 4096

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
}

/** What became of it. */
export interface ExecStatus {
  /** False: the program could not start its command, and says why on its standard error. */
  readonly started: boolean
  readonly exitCode: number
}

/** A program that was started, until it has ended. */
export class RunningProgram implements Disposable {
  readonly #libc: Libc
  readonly #program: ExecProgram
  readonly #life: PipeReader
  /** What its processes hold, and others do not: see {@link ProcessTree}. */
  readonly #tree: ProcessTree & { readonly held: Set<string> }
  #started = false

  private constructor(libc: Libc, program: ExecProgram, pid: number, held: readonly string[], lifeFd: number) {
    this.#libc = libc
    this.#program = program
    this.#tree = { root: pid, held: new Set(held) }
    this.#life = new PipeReader(lifeFd, MAX_LIFE_BYTES)
  }

  /**
   * @param fds what it finds at its descriptors 0, 1 and 2: one of ours, which is closed, or null for /dev/null.
   * @throws CodedError `Unavailable` when it cannot be started.
   */
  static start(libc: Libc, program: ExecProgram, fds: readonly (number | null)[]): RunningProgram {
    const { file, args, cwd } = program
    let life: readonly [number, number] | undefined
    try {
      writeFileSync(program.input.path, program.input.text, { mode: 0o600 })
      // A daemon that was killed may have left one of that name, and it says that the command was started.
      unlinkIfAny(program.pidPath)
      life = libc.pipe()
      const env = [`PATH=${DEFAULT_PATH}`, `_OCI_SYNCPIPE=${LIFE_FD}`]
      const held = fds.filter((fd) => fd !== null).map((fd) => readlinkSync(`/proc/self/fd/${fd}`))
      const pid = libc.spawn({ file, args, env, fds: [...fds, life[1]], cwd })
      setOomScore(pid, program.oomScoreAdj)
      return new RunningProgram(libc, program, pid, held, life[0])
    } catch (error) {
      if (life) closeSync(life[0])
      removeFiles(program)
      throw new CodedError('Unavailable', `run ${file}: ${errorMessage(error)}`, { cause: error })
    } finally {
      if (life) closeSync(life[1])
      for (const fd of fds) if (fd !== null) closeSync(fd)
    }
  }

  /** The processes that hold it are killed on abort. */
  hold(what: string): void {
    this.#tree.held.add(what)
  }

  /**
   * Waits for the program: processes that the command left in the background may live on.
   * @throws CodedError `Internal` when a signal ended it, or the abort reason, after all processes of the command have been
   * killed.
   */
  async ended(signal: AbortSignal): Promise<ExecStatus> {
    const status = await this.#status(signal)
    if (signal.aborted) throw abortReason(signal)
    if (status?.exitCode === undefined) {
      throw new CodedError('Internal', `run ${this.#program.file}: killed by signal ${status?.signal ?? '(unknown)'}`)
    }
    this.#look()
    return { started: this.#started, exitCode: status.exitCode }
  }

  [Symbol.dispose](): void {
    this.#life[Symbol.dispose]()
    removeFiles(this.#program)
  }

  /** When the container is removed, the file goes before the program ends: it has to be seen until then. */
  #look(): void {
    this.#started ||= existsSync(this.#program.pidPath)
  }

  /** On abort, kills. Null: not even that ended it, and somebody else reaps it. */
  async #status(signal: AbortSignal): Promise<WaitStatus | null> {
    const alarm = new Alarm()
    const wake = (): void => alarm.ring()
    void this.#life.closed().then(wake)
    signal.addEventListener('abort', wake, { once: true })
    try {
      let [pause, look] = [1, 1]
      while (!signal.aborted) {
        const status = this.#libc.reap(this.#tree.root)
        if (status) return status
        this.#look()
        if (this.#life.isClosed) {
          await alarm.within(pause)
          pause = Math.min(pause * 2, MAX_PAUSE_MS)
        } else {
          await alarm.within(this.#started ? LOOK_MS : look)
          look = Math.min(look * 2, MAX_PAUSE_MS)
        }
      }
    } finally {
      signal.removeEventListener('abort', wake)
    }
    return this.#kill()
  }

  async #kill(): Promise<WaitStatus | null> {
    const { root } = this.#tree
    for (let attempt = 0; attempt < KILLS; attempt++) {
      killBelow(this.#libc, this.#tree)
      const end = performance.now() + KILLED_MS
      for (let pause = 1; performance.now() < end; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
        const status = this.#libc.reap(root)
        if (status) return status
        await sleep(pause)
      }
    }
    process.kill(root, 'SIGKILL')
    await sleep(KILLED_MS)
    killBelow(this.#libc, this.#tree)
    return this.#libc.reap(root) ?? abandon(this.#libc, root)
  }
}

/** Of a process that has only just been started, and has not got to the point where it starts another. */
export function setOomScore(pid: number, value: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(value))
  } catch (error) {
    // Not ours to lower, or it has ended already; it works as well, with the daemon's own.
    if (!['EACCES', 'EPERM', 'ENOENT', 'ESRCH'].includes(errnoOf(error) ?? '')) throw error
  }
}

function removeFiles({ input, pidPath }: ExecProgram): void {
  for (const path of [input.path, pidPath]) unlinkIfAny(path)
}

function unlinkIfAny(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** It cannot even be killed (uninterruptible sleep): nobody waits for that, and it is reaped when it ends. */
function abandon(libc: Libc, pid: number): null {
  const timer = setInterval(() => {
    if (libc.reap(pid)) clearInterval(timer)
  }, 1000)
  timer.unref()
  return null
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
