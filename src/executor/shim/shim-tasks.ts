import { errorCode } from '../../core/errors.ts'
import type { TaskService } from '../task/types.ts'
import { unlessMissing } from '../task/task-calls.ts'

const SIGKILL = 9
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const END_MS = 5000

export interface TaskLimits {
  readonly callMs: number
  /** Of calls that run the OCI runtime. */
  readonly runtimeMs: number
}

/** Removes a task, with all that runs in it. One that the shim does not know is success. */
export async function removeTask(
  service: TaskService,
  id: string,
  limits: TaskLimits,
  signal: AbortSignal,
): Promise<void> {
  const remove = (): Promise<unknown> => unlessMissing(service.delete({ id }, { timeoutMs: limits.runtimeMs, signal }))
  try {
    // Most have ended, and to kill those costs a program.
    await remove()
  } catch (error) {
    if (['Unavailable', 'DeadlineExceeded'].includes(errorCode(error))) throw error
    signal.throwIfAborted()
    await killTask(service, id, limits, signal)
    await remove()
  }
}

/** Kills all that runs in a task, and waits for its end. */
async function killTask(service: TaskService, id: string, limits: TaskLimits, signal: AbortSignal): Promise<void> {
  await unlessMissing(service.kill({ id, signal: SIGKILL, all: true }, { timeoutMs: limits.callMs, signal }))
  await unlessMissing(service.wait({ id }, { timeoutMs: END_MS, signal }))
}

/** Whether the shim has a task of that name. */
export async function isKnown(
  service: TaskService,
  id: string,
  limits: TaskLimits,
  signal: AbortSignal,
): Promise<boolean> {
  return unlessMissing(service.state({ id }, { timeoutMs: limits.callMs, signal }))
}
