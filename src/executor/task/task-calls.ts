import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import type { TaskRecord } from '../types.ts'
import { isEndpointDead } from './endpoint-probe.ts'
import type { TaskServices, TaskService } from './types.ts'

/** To connect to a socket of this node, or to be refused. */
const PROBE_MS = 2000

/** Calls of a kind that succeeds when there is nothing (any more). @returns false then. */
export async function unlessMissing(call: Promise<unknown>): Promise<boolean> {
  try {
    await call
    return true
  } catch (error) {
    if (errorCode(error) === 'NotFound') return false
    throw error
  }
}

/** The same error, with what was tried. */
export function failure(what: string, error: unknown): CodedError {
  return new CodedError(errorCode(error), `${what}: ${errorMessage(error)}`, { cause: error })
}

/** Why something was given up, as an error that says so to whoever asked for it. */
export function givenUp(what: string, signal: AbortSignal): CodedError {
  const reason: unknown = signal.reason
  return reason instanceof CodedError
    ? reason
    : new CodedError('Canceled', `${what}: ${errorMessage(reason)}`, { cause: reason })
}

/** Whether a record's Task service has ended, which is seen at its socket. What cannot be told is thrown by its calls. */
export async function isServiceDead(record: TaskRecord, error: unknown): Promise<boolean> {
  return errorCode(error) === 'Unavailable' && isEndpointDead(record.endpoint, PROBE_MS)
}

/** The services of tasks by their records. */
export function serviceOf(services: TaskServices, record: TaskRecord): TaskService {
  return services.at(record.endpoint)
}
