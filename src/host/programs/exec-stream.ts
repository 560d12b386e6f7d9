import { closeSync } from 'node:fs'
import { type ExecProgram, type ExecStatus, RunningProgram } from './exec-program.ts'
import type { Libc } from '../libc.ts'

export interface StreamedExecProgram extends ExecProgram {
  /** The ends of pipes that are for the program, as its descriptors 0, 1 and 2; null is /dev/null. */
  readonly fds: readonly (number | null)[]
}

/**
 * Runs a command by way of such a program whose pipes somebody else has, and returns when the program has ended. What was
 * written may still be in the pipes. On abort all processes of the command are killed.
 *
 * @param onStarted is called before it waits.
 * @throws CodedError as `execRun` does.
 */
export async function execStream(
  libc: Libc,
  program: StreamedExecProgram,
  signal: AbortSignal,
  onStarted: (running: RunningProgram) => void,
): Promise<ExecStatus> {
  if (signal.aborted) for (const fd of program.fds) if (fd !== null) closeSync(fd)
  signal.throwIfAborted()
  using running = RunningProgram.start(libc, program, program.fds)
  onStarted(running)
  return await running.ended(signal)
}
