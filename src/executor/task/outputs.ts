import type { Logger } from 'pino'
import type { OutputName } from '../attach/records.ts'
import type { AttachedOutput } from '../attach/session.ts'
import { OutputDisk, type OutputRequest } from './output-disk.ts'

/** The output of a container, from its FIFOs to its log. */
export interface TaskOutput {
  /** Resolves when all that the container has printed is in its log. To be asked when it has ended. */
  finished(signal: AbortSignal): Promise<void>
  /** See `Executor.reopenLog`. */
  reopen(signal: AbortSignal): Promise<void>
  /** What it prints from now on. */
  tee(streams: readonly OutputName[], signal: AbortSignal): Promise<AttachedOutput>
  /** Reads no more. */
  close(): void
}

/**
 * Writes what the containers of Task services print to their logs. One thread does that for all whose logs are on the same
 * file system, and waits for that; it is started when it is first needed. A silent container costs a few descriptors.
 *
 * What a thread has read and not yet written is lost when the daemon is killed at that very moment: at most 64 KiB of
 * either stream. What a container prints while there is no daemon stays in its FIFOs, 64 KiB of either stream, before the
 * container waits; it is lost if the container ends before there is a daemon again, since its shim closes them then.
 */
export class TaskOutputs implements AsyncDisposable {
  readonly #logger: Logger
  readonly #disks = new Map<string, OutputDisk>()
  #lastKey = 0

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger
  }

  /**
   * Begins to read, and to write where an earlier one has stopped.
   * @throws CodedError `FailedPrecondition` when there can be no log, `NotFound` without FIFOs, `DeadlineExceeded` when the
   * disk does not answer.
   */
  async open(request: OutputRequest, signal: AbortSignal): Promise<TaskOutput> {
    signal.throwIfAborted()
    const { device } = request
    const disk = this.#disks.get(device) ?? this.#start(device)
    const key = ++this.#lastKey
    const close = (): void => disk.close(key)
    try {
      await disk.open(key, request, signal)
    } catch (error) {
      close()
      throw error
    }
    return {
      finished: (until) => disk.call(key, 'finish', key, until),
      reopen: (until) => disk.bounded(key, 'reopen', key, until),
      tee: (streams, until) => disk.tee(key, streams, until),
      close,
    }
  }

  #start(device: string): OutputDisk {
    const onIdle = (): void => {
      this.#disks.delete(device)
      void disk[Symbol.asyncDispose]()
    }
    const disk = new OutputDisk({ logger: this.#logger, onIdle })
    this.#disks.set(device, disk)
    return disk
  }

  /** Reads no more: what has been read is written, unless the disk hangs. */
  async [Symbol.asyncDispose](): Promise<void> {
    const disks = [...this.#disks.values()]
    this.#disks.clear()
    await Promise.all(disks.map((disk) => disk[Symbol.asyncDispose]()))
  }
}
