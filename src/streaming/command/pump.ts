import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { waitFor } from '../../core/deadline.ts'
import type { ProcessStreams } from '../../executor/types.ts'
import type { RemoteCommand } from '../types.ts'

/**
 * Carries bytes between a client and a process until the process has ended and all its output is with the client. At no
 * moment more is held than the streams themselves hold.
 *
 * @returns the exit code. Rejected with the reason when the client's signal aborts, or with what made an output fail.
 */
export async function pump(client: RemoteCommand, process: ProcessStreams): Promise<number> {
  client.onResize((size) => process.resize(size))
  feed(client.stdin, process.stdin)
  const outputs = [drain(process.stdout, client.stdout), drain(process.stderr, client.stderr)]
  const [exitCode] = await waitFor(Promise.all([process.ended, ...outputs]), client.signal)
  return exitCode
}

/** Input that the process does not read (any more) is dropped: the client cannot know, and must not be stuck with it. */
function feed(source: Readable | null, sink: Writable | null): void {
  // Why a connection ended is told by its signal.
  source?.on('error', () => {})
  // Most often EPIPE: the process has ended or closed its input, as it may.
  sink?.on('error', () => source?.resume())
  if (source === null) return
  if (sink === null || sink.destroyed) {
    source.resume()
    return
  }
  source.pipe(sink)
  sink.once('close', () => source.resume())
}

/** The client's stream is not ended: that belongs to the end of the session. */
async function drain(source: Readable | null, sink: Writable | null): Promise<void> {
  if (source === null) return
  if (sink === null) source.resume()
  else await pipeline(source, sink, { end: false })
}
