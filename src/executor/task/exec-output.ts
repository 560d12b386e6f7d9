import { constants, openSync } from 'node:fs'
import { sleep } from '../../core/deadline.ts'

/** What a pipe holds, and what a shim has in hand that copies it: so much of a command's output may be on its way. */
const ON_ITS_WAY_BYTES = 68 * 1024
/** If a process is left that could still print, the output is over when there was none for so long, or after the limit. */
const QUIET_MS = 200
const LIMIT_MS = 1000
const LOOK_MS = 20

/** One output of a command that has ended. */
export interface EndingOutput {
  /** Whether nobody can write to it any more. */
  readonly isClosed: boolean
  readonly receivedBytes: number
  /** What is there and was not received; without it, everything is received at once. */
  readonly unreadBytes?: number
  finish?(moreBytes?: number): void
}

/** The output of a command, for reading; nobody waits for who writes. */
export function openOutput(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
}

/**
 * Resolves when what a command has printed before its end has been received: its shim passes that on, and then closes the
 * outputs, unless a process that it has left holds them.
 */
export async function drained(outputs: readonly EndingOutput[]): Promise<void> {
  await Promise.all(outputs.map(drainedOne))
}

async function drainedOne(output: EndingOutput): Promise<void> {
  const start = performance.now()
  const enough = output.receivedBytes + (output.unreadBytes ?? ON_ITS_WAY_BYTES) + ON_ITS_WAY_BYTES
  output.finish?.(ON_ITS_WAY_BYTES)
  for (let [last, lastAt] = [output.receivedBytes, start]; !output.isClosed; ) {
    await sleep(LOOK_MS)
    const now = performance.now()
    const { receivedBytes, unreadBytes = 0 } = output
    // A client that does not read keeps it from coming.
    if (receivedBytes !== last || unreadBytes > 0) [last, lastAt] = [receivedBytes, now]
    if (unreadBytes === 0 && (now - lastAt > QUIET_MS || now - start > LIMIT_MS || receivedBytes > enough)) break
  }
  output.finish?.()
}
