import { setImmediate } from 'node:timers/promises'
import { sleep } from '../../core/deadline.ts'
import { type ExecProgram, type ExecStatus, RunningProgram } from './exec-program.ts'
import type { Libc } from '../libc.ts'
import { type OutputBudget, OutputReader } from './output-reader.ts'

/** What a command has written is in its pipes when it has ended, and read at once; a process it left there may go on. */
const DRAIN_MS = 50

export interface RunExecProgram extends ExecProgram {
  readonly maxOutputBytes: number
}

export interface ExecEnding extends ExecStatus {
  readonly stdout: Uint8Array<ArrayBuffer>
  readonly stderr: Uint8Array<ArrayBuffer>
}

/**
 * Runs a command by way of such a program, and returns when that has ended: processes that the command left in the
 * background may live on and hold its output. On abort all processes of the command are killed.
 *
 * @throws CodedError `Unavailable` when the program cannot be started, `Internal` when a signal ended it, or the abort
 * reason.
 */
export async function execRun(
  libc: Libc,
  program: RunExecProgram,
  budget: OutputBudget,
  signal: AbortSignal,
): Promise<ExecEnding> {
  signal.throwIfAborted()
  const [out, err] = [libc.pipe(), libc.pipe()]
  using stdout = new OutputReader(out[0], program.maxOutputBytes, budget)
  using stderr = new OutputReader(err[0], program.maxOutputBytes, budget)
  using running = RunningProgram.start(libc, program, [null, out[1], err[1]])
  const status = await running.ended(signal)
  await drain([stdout, stderr])
  return { ...status, stdout: stdout.copy(), stderr: stderr.copy() }
}

async function drain(readers: readonly OutputReader[]): Promise<void> {
  if (readers.every((reader) => reader.isClosed)) return
  const drained = new AbortController()
  for (const reader of readers) reader.onClosed(() => readers.every(({ isClosed }) => isClosed) && drained.abort())
  await sleep(DRAIN_MS, drained.signal).catch(() => undefined)
  // On a busy thread the time may pass before anything is read.
  await setImmediate()
}
