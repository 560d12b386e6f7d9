import { closeSync } from 'node:fs'
import { deadline, sleep } from '../../core/deadline.ts'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { Libc } from '../libc.ts'
import { PipeReader } from './pipe-reader.ts'

const SYNC_FD = 3
const MAX_MESSAGE = 64 * 1024

export interface LaunchOptions {
  /** Its working directory; `/` by default. */
  readonly cwd?: string
  /** Its environment, beside `PATH`, unless that is given. */
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/**
 * Starts a program that puts itself into the background and outlives us (conmon), and returns the first line that it
 * writes to descriptor 3, which it finds in `_OCI_SYNCPIPE`. It runs in a session of its own, with nothing inherited.
 *
 * Here and not in `run`: such a program has no end to wait for.
 *
 * @throws CodedError `Unavailable` when it cannot be started or says nothing, `DeadlineExceeded`, or the abort reason.
 * It may go on in the background: whoever calls this has to have a way to find it (a pid file).
 */
export async function launchMonitor(
  libc: Libc,
  file: string,
  args: readonly string[],
  options: LaunchOptions,
): Promise<string> {
  using limit = deadline(`launch ${file}`, options.timeoutMs, options.signal)
  limit.signal.throwIfAborted()
  const sync = libc.pipe()
  const stderr = libc.pipe()
  try {
    const variables = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...options.env, _OCI_SYNCPIPE: String(SYNC_FD) }
    const env = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
    const cwd = options.cwd ?? '/'
    const pid = libc.spawn({ file, args, env, fds: [null, null, stderr[1], sync[1]], cwd })
    void reapSoon(libc, pid)
  } catch (error) {
    closeSync(sync[0])
    closeSync(stderr[0])
    throw new CodedError('Unavailable', `launch ${file}: ${errorMessage(error)}`, { cause: error })
  } finally {
    closeSync(sync[1])
    closeSync(stderr[1])
  }
  using complaints = new PipeReader(stderr[0], MAX_MESSAGE)
  using answer = new PipeReader(sync[0], MAX_MESSAGE)
  const line = await answer.firstLine(limit.signal)
  if (line !== '') return line
  const said = complaints.text.trim()
  throw new CodedError('Unavailable', `launch ${file}: it ended without a message${said && `: ${said}`}`)
}

/** The process that we started ends as soon as it has put its child into the background. */
async function reapSoon(libc: Libc, pid: number): Promise<void> {
  for (let pause = 1; libc.reap(pid) === null; pause = Math.min(pause * 2, 1000)) await sleep(pause)
}
