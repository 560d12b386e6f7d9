import type { Logger } from 'pino'
import { errorCode, errorMessage } from '../core/errors.ts'
import { type ExecutedRecord, isTask, type TaskRecord } from '../executor/types.ts'
import type { Pods } from './pods.ts'

export interface OrphansDeps {
  readonly pods: Pick<Pods, 'hasEnded'>
  /** Ends and removes what is on this node of a container whose Task service is gone. Nothing there is success. */
  readonly reap: (record: TaskRecord, signal: AbortSignal) => Promise<void>
  readonly logger: Logger
}

/**
 * Containers whose Task service does not answer. That says nothing of them, and they stay what they are on record, until it
 * is known that their sandbox has ended: then nobody will answer for them any more.
 */
export class Orphans {
  readonly #deps: OrphansDeps

  constructor(deps: OrphansDeps) {
    this.#deps = deps
  }

  /**
   * Ends what there is of a container at which something has failed, if it is one of these. Returns whether it was.
   * @throws CodedError when it cannot be ended.
   */
  async end(record: ExecutedRecord, failure: unknown, signal: AbortSignal): Promise<boolean> {
    if (!isTask(record) || !isUnreachable(failure) || !this.#deps.pods.hasEnded(record.sandboxId)) return false
    await this.reap(record, signal)
    const log = { containerId: record.id, sandboxId: record.sandboxId, error: errorMessage(failure) }
    this.#deps.logger.warn(
      log,
      'the Task service of a container is gone with its sandbox: what was left of it is ended',
    )
    return true
  }

  /** Ends and removes what is on this node of a container. Nothing there is success. */
  async reap(record: TaskRecord, signal: AbortSignal): Promise<void> {
    await this.#deps.reap(record, signal)
  }
}

/** Whether somebody did not answer: what was asked for may have been done, or not. */
export function isUnreachable(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'Unavailable' || code === 'DeadlineExceeded'
}
