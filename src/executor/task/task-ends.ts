import type { Logger } from 'pino'
import { deadline, waitFor } from '../../core/deadline.ts'
import { errorMessage } from '../../core/errors.ts'
import { isAlive, type ProcessIdentity } from '../../host/process.ts'
import type { ExitStatus, TaskRecord } from '../types.ts'
import type { ContainerStreams } from './container-streams.ts'
import type { TaskOutput } from './outputs.ts'
import { isServiceDead, serviceOf } from './task-calls.ts'
import { TaskWait } from './task-wait.ts'
import type { TaskServices } from './types.ts'
import { unknownExit } from '../../core/unknown-exit.ts'

/** After the end of a container its shim passes on what it had printed, and other processes of it may still print. */
const LINGER_MS = 1000
/** After this, a log is given up: it may lie on a disk that hangs. */
const STUCK_MS = 15_000

export interface TaskEndsOptions {
  readonly bootId: string
  readonly callTimeoutMs: number
}

export interface TaskEndsDeps {
  readonly services: TaskServices
  readonly streams: ContainerStreams
  readonly logger: Logger
  /** Kills what is left of a container. */
  readonly killAll: (record: TaskRecord, signal: AbortSignal) => Promise<void>
}

/** Sees containers end, and has everything that they have printed in their logs before anybody is told. */
export class TaskEnds {
  readonly #options: TaskEndsOptions
  readonly #deps: TaskEndsDeps
  readonly #waits = new Map<string, Set<TaskWait>>()
  readonly #outputs = new Map<string, Promise<void>>()

  constructor(options: TaskEndsOptions, deps: TaskEndsDeps) {
    this.#options = options
    this.#deps = deps
  }

  /**
   * Resolves when the process has ended. Any number may wait for the same.
   * @param process null when it is not known.
   * @throws CodedError `Unavailable` when the service cannot be asked for long.
   */
  async wait(record: TaskRecord, process: ProcessIdentity | null, signal: AbortSignal): Promise<ExitStatus> {
    const { bootId, callTimeoutMs } = this.#options
    if (process && process.bootId !== bootId) return unknownExit()
    const isGone = async (error: unknown): Promise<boolean> =>
      process !== null && process.startTime !== '' && !isAlive(process, bootId) && (await isServiceDead(record, error))
    const wait = new TaskWait(
      { id: record.id, execId: '', timeoutMs: callTimeoutMs, unreachableMs: callTimeoutMs, signal },
      { service: serviceOf(this.#deps.services, record), isGone },
    )
    const waits = this.#waits.get(record.id) ?? new Set()
    this.#waits.set(record.id, waits.add(wait))
    try {
      const exit = await wait.ended()
      await this.outputOf(record, signal)
      return exit
    } finally {
      waits.delete(wait)
      if (waits.size === 0 && this.#waits.get(record.id) === waits) this.#waits.delete(record.id)
    }
  }

  /** A container may have ended. */
  wake(id: string): void {
    for (const wait of this.#waits.get(id) ?? []) wait.wake()
  }

  /** Resolves when the output of a container that has ended is in its log, or was given up. */
  async outputOf(record: TaskRecord, signal: AbortSignal): Promise<void> {
    const finished = this.#outputs.get(record.id) ?? this.#finish(record)
    this.#outputs.set(record.id, finished)
    await waitFor(finished, signal)
  }

  forget({ id }: TaskRecord): void {
    this.#outputs.delete(id)
  }

  /** It has no signal: it is the same for all. */
  async #finish(record: TaskRecord): Promise<void> {
    const { streams, logger, killAll } = this.#deps
    const { id } = record
    let output: TaskOutput | null = null
    try {
      output = (await streams.of(record)).output
      if (!output) return
      const open = output
      const finished = async (ms: number): Promise<boolean> => {
        using limit = deadline(`output of container ${id}`, ms)
        return await open.finished(limit.signal).then(
          () => true,
          (error: unknown) => {
            if (limit.signal.aborted) return false
            throw error
          },
        )
      }
      if (await finished(LINGER_MS)) return
      // What is left of the container can keep its output open for ever.
      using limit = deadline(`kill the rest of container ${id}`, STUCK_MS)
      await killAll(record, limit.signal).catch((error: unknown) => {
        logger.warn({ id, error: errorMessage(error) }, 'the rest of a container cannot be ended')
      })
      if (!(await finished(STUCK_MS))) logger.warn({ id }, 'log of a container: the rest of it is given up')
    } catch (error) {
      logger.warn({ id, error: errorMessage(error) }, 'log of a container: the rest of it is given up')
    } finally {
      output?.close()
    }
  }
}
