import { lstat } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { deadline } from '../core/deadline.ts'
import { CodedError, errnoOf } from '../core/errors.ts'
import { removeFile } from './files.ts'

const PROBE_TIMEOUT_MS = 1000

/**
 * Makes sure that a Unix socket can be bound at `path`: removes a socket file on which nobody answers any more.
 *
 * @throws CodedError `FailedPrecondition` when somebody serves it, when that cannot be told, or when something that is
 * not a socket is there.
 */
export async function freeSocketPath(path: string): Promise<void> {
  const isSocket = await lstat(path).then(
    (stats) => stats.isSocket(),
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw error
    },
  )
  if (isSocket === undefined) return
  if (!isSocket) throw new CodedError('FailedPrecondition', `listen on ${path}: a file that is no socket is there`)
  if (!(await isStale(path))) throw new CodedError('FailedPrecondition', `listen on ${path}: another daemon serves it`)
  await removeFile(path)
}

/** Only a refused connection shows that nobody listens: a full backlog or a silent peer is a living one. */
async function isStale(path: string): Promise<boolean> {
  using limit = deadline(`connect to ${path}`, PROBE_TIMEOUT_MS)
  const socket = createConnection(path)
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(false))
      socket.once('error', (error) => resolve(['ECONNREFUSED', 'ENOENT'].includes(errnoOf(error) ?? '')))
      limit.signal.addEventListener('abort', () => resolve(false), { once: true })
    })
  } finally {
    socket.destroy()
  }
}
