import { execa } from 'execa'
import { deadline } from '../core/deadline.ts'
import { CodedError } from '../core/errors.ts'

/** How a program is run. Everything is explicit: no shell, no inherited environment, no inherited descriptors. */
export interface RunOptions {
  /** The whole environment of the program. */
  readonly env?: Readonly<Record<string, string>>
  /** What the program reads on standard input; default: nothing. */
  readonly input?: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** More output than this, in bytes and on either stream, ends the program. Default 4 MiB. */
  readonly maxOutputBytes?: number
}

export interface RunResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** {@link run}, wherever it runs. */
export type RunProgram = (file: string, args: readonly string[], options: RunOptions) => Promise<RunResult>

/** A program that could not be run, was ended, or (from {@link runOk}) failed. */
export class ExecError extends CodedError {
  override readonly name = 'ExecError'
  readonly exitCode: number | undefined
  readonly stderr: string

  constructor(
    code: CodedError['code'],
    message: string,
    details: { exitCode?: number | undefined; stderr: string; cause?: unknown },
  ) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause })
    this.exitCode = details.exitCode
    this.stderr = details.stderr
  }
}

const STDERR_TAIL = 8 * 1024

/**
 * Runs a program to its end and returns what it printed and its exit code, whatever that is.
 * The program leads a process group of its own; at the deadline, on abort, or past the output limit the whole group is
 * killed, so that no grandchild outlives the call. The working directory is `/`.
 *
 * @throws ExecError `Unavailable` when it cannot be started, `DeadlineExceeded`, the abort reason's code, or `Internal`
 * when a signal ended it.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  using limit = deadline(`run ${file}`, options.timeoutMs, options.signal)
  limit.signal.throwIfAborted()
  const child = execa(file, args, {
    cwd: '/',
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...options.env },
    extendEnv: false,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    ...(options.input === undefined ? {} : { input: options.input }),
    stripFinalNewline: false,
    maxBuffer: options.maxOutputBytes ?? 4 * 1024 * 1024,
    reject: false,
    cleanup: false,
    detached: true,
  })
  const killGroup = (): void => {
    killProcessGroup(child.pid)
    // A grandchild that left the group may hold the pipes open: nobody waits for that.
    child.stdout?.destroy()
    child.stderr?.destroy()
  }
  limit.signal.addEventListener('abort', killGroup, { once: true })
  const result = await child
  limit.signal.removeEventListener('abort', killGroup)

  const stderr = tail(String(result.stderr))
  const fail = (code: CodedError['code'], why: string, cause?: unknown): ExecError =>
    new ExecError(code, `run ${file} ${args.join(' ')}: ${why}${stderr.trim() ? `: ${oneLine(stderr)}` : ''}`, {
      exitCode: result.exitCode,
      stderr,
      cause,
    })
  if (limit.signal.aborted) {
    const reason: unknown = limit.signal.reason
    throw fail(reason instanceof CodedError ? reason.code : 'Canceled', 'ended before it was done', reason)
  }
  if (result.isMaxBuffer) {
    killGroup()
    throw fail('ResourceExhausted', 'printed too much')
  }
  if (result.exitCode === undefined) {
    if (result.signal) throw fail('Internal', `killed by ${result.signal}`)
    throw fail('Unavailable', 'cannot be started', result.cause)
  }
  return { exitCode: result.exitCode, stdout: String(result.stdout), stderr }
}

/** Like {@link run}, but an exit code other than 0 is an {@link ExecError} `Internal` that quotes the end of stderr. */
export async function runOk(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return expectSuccess(file, args, await run(file, args, options))
}

/** Turns an exit code other than 0 into an {@link ExecError} `Internal` that quotes the end of stderr. */
export function expectSuccess(file: string, args: readonly string[], result: RunResult): RunResult {
  if (result.exitCode === 0) return result
  const why = result.stderr.trim() || result.stdout.trim()
  throw new ExecError('Internal', `run ${file} ${args.join(' ')}: exit code ${result.exitCode}: ${oneLine(why)}`, {
    exitCode: result.exitCode,
    stderr: result.stderr,
  })
}

function killProcessGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group is gone already.
  }
}

function tail(text: string): string {
  return text.length > STDERR_TAIL ? text.slice(-STDERR_TAIL) : text
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, '; ')
}
