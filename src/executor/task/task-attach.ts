import { abortReason } from '../../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { outputOfLog } from '../attach/attachments.ts'
import type { ContainerLogs } from '../attach/logs.ts'
import { type AttachedOutput, AttachSession } from '../attach/session.ts'
import type { AttachRequest, ExitStatus, ProcessStreams, TaskRecord, TerminalSize } from '../types.ts'
import type { HeldStreams } from './container-streams.ts'
import { noteInputUsed } from './stdio.ts'

export interface TaskAttachDeps {
  readonly logs: ContainerLogs
  readonly wait: (signal: AbortSignal) => Promise<ExitStatus>
  readonly resize: (size: TerminalSize) => Promise<void>
  /** Told what goes wrong and nobody waits for. */
  readonly onTrouble: (error: unknown) => void
}

/** See `Executor.attach`: output is followed from the log, or comes as a copy of what is in the FIFOs; all share the input. */
export async function attachToTask(
  record: TaskRecord,
  held: HeldStreams,
  { io, wanted }: Pick<AttachRequest, 'io' | 'wanted'>,
  deps: TaskAttachDeps,
  signal: AbortSignal,
): Promise<ProcessStreams> {
  signal.throwIfAborted()
  const output = await outputFor(record, held, { io, wanted }, deps.logs, signal)
  const input = wanted.stdin && io.stdin ? held.input : null
  if (input && io.stdinOnce) await noteInputUsed(record.bundleDir)
  // A size that came before what is typed is there before it.
  const inOrder = input && {
    write: async (chunk: Buffer) => resized.then(() => input.write(chunk)),
    endInput: async () => resized.then(() => input.endInput()),
  }
  const onAbort = (): void => void session.close(abortReason(signal)).catch(() => undefined)
  const release = (): void => signal.removeEventListener('abort', onAbort)
  let resized: Promise<unknown> = Promise.resolve()
  const resize = (size: TerminalSize): void => {
    // In order: the last is the one that counts.
    if (io.terminal) resized = resized.then(() => deps.resize(size)).catch(deps.onTrouble)
  }
  const wait = (until: AbortSignal): Promise<ExitStatus> => patiently(deps.wait, until)
  const session = new AttachSession({ id: record.id, output, input: inOrder, wait, resize, release })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return session
}

async function outputFor(
  record: TaskRecord,
  held: HeldStreams,
  { io, wanted }: Pick<AttachRequest, 'io' | 'wanted'>,
  logs: ContainerLogs,
  signal: AbortSignal,
): Promise<AttachedOutput> {
  const names = (['stdout', 'stderr'] as const).filter((name) => wanted[name] && !(io.terminal && name === 'stderr'))
  if (names.length === 0) return { stdout: null, stderr: null, end: () => undefined }
  if (!held.output) throw new CodedError('FailedPrecondition', `attach to container ${record.id}: it has no output`)
  if (io.logPath === '') return held.output.tee(names, signal)
  // While a log is being rotated there is none at its path.
  await held.output.reopen(signal)
  return outputOfLog(logs, { path: io.logPath, monitorPid: null, names }, signal)
}

/** A service that cannot be reached for a while ends no session. */
async function patiently(wait: (signal: AbortSignal) => Promise<ExitStatus>, signal: AbortSignal): Promise<ExitStatus> {
  for (;;) {
    try {
      return await wait(signal)
    } catch (error) {
      if (signal.aborted || errorCode(error) !== 'Unavailable') {
        throw error instanceof Error ? error : new Error(errorMessage(error))
      }
    }
  }
}
