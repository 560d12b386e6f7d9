import { deadline } from '../../core/deadline.ts'
import {
  DEFAULT_MAX_OUTPUT,
  DEFAULT_PATH,
  expectSuccess,
  killProcessGroup,
  type RunOptions,
  type RunResult,
  toResult,
} from './outcome.ts'

/**
 * Runs a program to its end and returns what it printed and its exit code, whatever that is.
 * The program leads a process group of its own; at the deadline, on abort, or past the output limit the whole group is
 * killed, so that no grandchild outlives the call.
 *
 * For what is run now and then: each call stops the calling thread for some milliseconds. What runs with every pod goes
 * through `Programs`.
 *
 * @throws ExecError `Unavailable` when it cannot be started, `DeadlineExceeded`, the abort reason's code, or `Internal`
 * when a signal ended it.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  using limit = deadline(`run ${file}`, options.timeoutMs, options.signal)
  // A tenth of the daemon's start, and it runs nothing this way.
  const { execa } = await import('execa')
  limit.signal.throwIfAborted()
  const child = execa(file, args, {
    cwd: options.cwd ?? '/',
    env: { PATH: DEFAULT_PATH, ...options.env },
    extendEnv: false,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    ...(options.input === undefined ? {} : { input: options.input }),
    stripFinalNewline: false,
    maxBuffer: options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT,
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
  if (result.isMaxBuffer) killGroup()
  const { exitCode, signal, isMaxBuffer, cause } = result
  const texts = { stdout: String(result.stdout), stderr: String(result.stderr) }
  return toResult(file, args, { exitCode, signal, ...texts, printedTooMuch: isMaxBuffer, cause }, limit.signal)
}

/** Like {@link run}, but an exit code other than 0 is an {@link ExecError} `Internal` that quotes the end of stderr. */
export async function runOk(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return expectSuccess(file, args, await run(file, args, options))
}
