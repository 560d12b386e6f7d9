import type { Writable } from 'node:stream'
import { deadline, waitFor } from '../../core/deadline.ts'
import type { Carrier } from '../carrier.ts'
import { encodeStatus, type StatusFormat } from './status.ts'
import type { Outcome } from '../types.ts'

/** For the last words to a client that is not waited for any more. */
const GOODBYE_MS = 1000

export interface CommandEnd {
  readonly outputs: readonly (Writable | null)[]
  /** Where the status goes; null when the client has not opened it. */
  readonly error: Writable | null
  readonly status: StatusFormat
  /** Of the session as a whole. */
  readonly signal: AbortSignal
}

/**
 * Ends the outputs, tells how it ended, and closes the connection. A client may take its time to read as long as its session
 * may go on; when that is aborted (idle, shut down), it is told in a second, or not at all.
 * @throws the reason when the connection broke off before the client could know.
 */
export async function finishCommand(carrier: Carrier, end: CommandEnd, outcome: Outcome): Promise<void> {
  const { outputs, error, status } = end
  if (carrier.signal.aborted) return
  using limit = end.signal.aborted ? deadline('tell the client how it ended', GOODBYE_MS) : null
  const signal = limit?.signal ?? end.signal
  if (!limit) await waitFor(Promise.all(outputs.map((output) => ended(output))), signal)
  await waitFor(ended(error, encodeStatus(status, outcome)), signal)
  try {
    await waitFor(carrier.close(), signal)
  } catch (reason) {
    // The same signal may tell that the connection has ended, which is what was asked for.
    if (!carrier.signal.aborted) throw reason
  }
}

function ended(stream: Writable | null, last: Buffer = Buffer.alloc(0)): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve())
    // One that the client has closed keeps it from nothing else.
    if (stream === null || stream.destroyed) resolve()
    else if (last.length > 0) stream.end(last, done)
    else stream.end(done)
  })
}
