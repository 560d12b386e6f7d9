import { CodedError } from '../../core/errors.ts'

/** How a program is run. Everything is explicit: no shell, no inherited environment, no inherited descriptors. */
export interface RunOptions {
  /** The whole environment of the program. */
  readonly env?: Readonly<Record<string, string>>
  /** What the program reads on standard input; default: nothing. */
  readonly input?: string | Uint8Array
  /** Its working directory; `/` by default. */
  readonly cwd?: string
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

/** Runs a program to its end; see `run` in `run.ts`. */
export type RunProgram = (file: string, args: readonly string[], options: RunOptions) => Promise<RunResult>

/** A program that could not be run, was ended, or (from {@link expectSuccess}) failed. */
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

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
export const DEFAULT_MAX_OUTPUT = 4 * 1024 * 1024
const STDERR_TAIL = 8 * 1024

/** How a program ended, whoever ran it. */
export interface Ending {
  /** Undefined when a signal ended it, or it was never started. */
  readonly exitCode: number | undefined
  /** The name or number of the signal that ended it. */
  readonly signal: string | undefined
  readonly stdout: string
  readonly stderr: string
  readonly printedTooMuch: boolean
  /** Why it could not be started. */
  readonly cause: unknown
}

/**
 * Makes a result of an ending.
 * @param signal ended the program if it is aborted.
 * @throws ExecError as `run` does.
 */
export function toResult(file: string, args: readonly string[], ending: Ending, signal: AbortSignal): RunResult {
  const { exitCode } = ending
  const stderr = tail(ending.stderr)
  const fail = (code: CodedError['code'], why: string, cause?: unknown): ExecError =>
    new ExecError(code, `run ${file} ${args.join(' ')}: ${why}${stderr.trim() ? `: ${oneLine(stderr)}` : ''}`, {
      exitCode,
      stderr,
      cause,
    })
  if (signal.aborted) {
    const reason: unknown = signal.reason
    throw fail(reason instanceof CodedError ? reason.code : 'Canceled', 'ended before it was done', reason)
  }
  if (ending.printedTooMuch) throw fail('ResourceExhausted', 'printed too much')
  if (exitCode !== undefined) return { exitCode, stdout: ending.stdout, stderr }
  if (ending.signal !== undefined) throw fail('Internal', `killed by ${ending.signal}`)
  throw fail('Unavailable', 'cannot be started', ending.cause)
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

/** Kills what is left of the process group that a program leads. */
export function killProcessGroup(pid: number | undefined): void {
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
