import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { abortReason, deadline } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'

const SYNC_FD = 3
const MAX_MESSAGE = 64 * 1024

/**
 * Starts a program that puts itself into the background and outlives us (conmon), and returns the first line that it
 * writes to descriptor 3, which it finds in `_OCI_SYNCPIPE`. It runs in a session of its own, with nothing inherited.
 *
 * Here and not in `run`, and without execa: such a program has no end to wait for, and each start of a pod pays for it.
 *
 * @throws CodedError `Unavailable` when it cannot be started or says nothing, `DeadlineExceeded`, or the abort reason.
 * It may go on in the background: whoever calls this has to have a way to find it (a pid file).
 */
export async function launchMonitor(
  file: string,
  args: readonly string[],
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string> {
  using limit = deadline(`launch ${file}`, options.timeoutMs, options.signal)
  limit.signal.throwIfAborted()
  const child = spawn(file, args, {
    cwd: '/',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', _OCI_SYNCPIPE: String(SYNC_FD) },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    detached: true,
  })
  try {
    const { line, stderr } = await firstLine(child, limit.signal)
    if (line !== '') return line
    throw new CodedError('Unavailable', `launch ${file}: it ended without a message${stderr && `: ${stderr.trim()}`}`)
  } finally {
    for (const stream of child.stdio) stream?.destroy()
    child.unref()
  }
}

function firstLine(child: ChildProcess, signal: AbortSignal): Promise<{ line: string; stderr: string }> {
  // The index is that of `stdio` above; the type of the array does not know it.
  const sync = child.stdio[SYNC_FD] as Readable
  return new Promise((resolve, reject) => {
    let message = ''
    let stderr = ''
    child.stderr?.on('data', (data: Buffer) => {
      if (stderr.length < MAX_MESSAGE) stderr += data.toString()
    })
    sync.on('data', (data: Buffer) => {
      message += data.toString()
      if (message.includes('\n') || message.length > MAX_MESSAGE) resolve({ line: message.trim(), stderr })
    })
    sync.once('end', () => resolve({ line: message.trim(), stderr }))
    sync.once('error', reject)
    child.once('error', (error) => {
      reject(new CodedError('Unavailable', `launch ${child.spawnfile}: ${errorMessage(error)}`, { cause: error }))
    })
    const onAbort = (): void => reject(abortReason(signal))
    signal.addEventListener('abort', onAbort, { once: true })
    sync.once('close', () => signal.removeEventListener('abort', onAbort))
  })
}
