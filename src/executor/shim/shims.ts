import { canonicalJson } from '../../core/canonical-json.ts'
import { CodedError } from '../../core/errors.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import { removeTree } from '../../host/files.ts'
import type { Libc } from '../../host/libc.ts'
import { identifyProcess, isAlive, type ProcessIdentity } from '../../host/process.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { TaskService, TaskServices } from '../task/types.ts'
import type { TaskEndpoint } from '../types.ts'
import { bootstrapShim, readBootstrap } from './bootstrap.ts'
import { membersOf } from './members.ts'
import { openQuietStreams, type QuietStreams } from './quiet-streams.ts'
import { findShimBinary } from './shim-binary.ts'
import { findShimProcesses, type FoundShim, isShimOf, listShims } from './shim-process.ts'
import { ShimRemoval } from './shim-removal.ts'
import type { ShimRecord, StartedShim, TaskOptions } from './types.ts'
import { WarmShims, type WarmShimsOptions } from './warm-shims.ts'

/** To clear up after a start that failed, whatever became of whoever wanted it. */
const UNDO_MS = 10_000

export interface ShimsOptions {
  /** See {@link ShimRecord.ownerAddress}; unlike that of any other daemon on the machine. */
  readonly ownerAddress: string
  /** Where shims and the runtimes they run are looked for: directories, separated by `:`. */
  readonly searchPath: string
  /** One command or call that runs an OCI runtime. */
  readonly runtimeMs: number
  /** Any other call. */
  readonly callMs: number
  readonly bootId: string
  /** Of shims that are kept ready. */
  readonly warm: WarmShimsOptions
}

export interface ShimsDeps {
  readonly run: RunProgram
  readonly libc: Libc
  readonly services: TaskServices
  readonly messages: ProtoGrpcType
  readonly logger: Logger
}

/**
 * containerd shims (runtime v2): programs that serve the Task API for the containers of one sandbox, and outlive us.
 * Of those that have a sandbox nothing is remembered: every call works from the record, also after a restart.
 */
export class Shims implements AsyncDisposable {
  readonly #options: ShimsOptions
  readonly #deps: ShimsDeps
  readonly #removal: ShimRemoval
  readonly #warm: WarmShims
  /** Those that were ready, planned for a sandbox and not started for it yet. */
  readonly #taken = new Map<string, StartedShim>()

  constructor(options: ShimsOptions, deps: ShimsDeps) {
    this.#options = options
    this.#deps = deps
    this.#removal = new ShimRemoval(options, deps)
    this.#warm = new WarmShims(options.warm, {
      start: async (record, signal) => {
        const endpoint = await this.#bootstrap(record, signal)
        return { endpoint, process: await this.identify(record, endpoint, signal) }
      },
      end: async (record, signal) => this.#endUnused(record, signal),
      logger: deps.logger,
    })
  }

  /**
   * A record for a new shim, or for one that is ready. Nothing is made yet.
   * @throws CodedError `FailedPrecondition` when there is no program for this runtime type.
   */
  async plan(request: {
    readonly id: string
    readonly runtimeType: string
    readonly namespace: string
    readonly bundleDir: string
    readonly eventsAddress: string
    readonly netnsPath: string
    readonly options: TaskOptions | null
  }): Promise<ShimRecord> {
    const { id, bundleDir, netnsPath, runtimeType, ...rest } = request
    const { ownerAddress, searchPath } = this.#options
    const kind = { ...rest, binary: await findShimBinary(runtimeType, searchPath), ownerAddress }
    const task = { id, bundleDir }
    const warm = this.#warm.take(kind)
    if (!warm) return { ...kind, ...task, task, netnsPath }
    this.#taken.set(warm.record.id, warm.shim)
    return { ...warm.record, task, netnsPath }
  }

  /** @throws CodedError `DataLoss` for what is not one of ours. */
  parse(record: unknown, id: string, bundleDir: string): ShimRecord {
    const shim = (record ?? {}) as Partial<ShimRecord>
    const isOurs =
      shim.task?.id === id &&
      shim.task.bundleDir === bundleDir &&
      ((shim.id === id && shim.bundleDir === bundleDir) || this.#warm.isOwn(shim.id ?? '', shim.bundleDir ?? '')) &&
      shim.ownerAddress === this.#options.ownerAddress &&
      typeof shim.binary === 'string' &&
      shim.binary.startsWith('/') &&
      typeof shim.namespace === 'string' &&
      typeof shim.eventsAddress === 'string' &&
      typeof shim.netnsPath === 'string' &&
      (shim.options === null || typeof shim.options?.value === 'string')
    if (!isOurs) throw new CodedError('DataLoss', `shim record: ${canonicalJson(record ?? null)} is not one of ours`)
    return record as ShimRecord
  }

  /** The record of a shim of which only the id is known, or null when there is none that runs. */
  derive(id: string, bundleDir: string, netnsPath: string): ShimRecord | null {
    const { ownerAddress } = this.#options
    const shim = this.listOwned().find((candidate) => candidate.taskId === id)
    if (!shim) return null
    const { namespace, binary } = shim
    const own = shim.id === id ? bundleDir : this.#warm.directoryOf(shim.id)
    const task = { id, bundleDir }
    const rest = { namespace, binary, ownerAddress, eventsAddress: ownerAddress, netnsPath, options: null }
    return { ...rest, id: shim.id, bundleDir: own, task }
  }

  /**
   * Starts the shim, unless it is one that was ready. It then serves the Task API and knows no task.
   * @returns where, and its process if that is known: otherwise it is to be identified.
   * @throws CodedError `FailedPrecondition` or `Internal` with what it said; then nothing of it runs.
   */
  async start(
    record: ShimRecord,
    signal: AbortSignal,
  ): Promise<{ readonly endpoint: TaskEndpoint; readonly process: ProcessIdentity | null }> {
    const taken = this.#taken.get(record.id)
    this.#taken.delete(record.id)
    if (this.#warm.isOwn(record.id, record.bundleDir)) await this.#warm.claim(record)
    if (taken && isAlive(taken.process, this.#options.bootId)) return taken
    return { endpoint: await this.#bootstrap(record, signal), process: null }
  }

  async #bootstrap(record: ShimRecord, signal: AbortSignal): Promise<TaskEndpoint> {
    const { runtimeMs: timeoutMs, searchPath } = this.#options
    try {
      return await bootstrapShim(record, { searchPath, timeoutMs }, this.#deps, signal)
    } catch (error) {
      await this.#removal.kill(findShimProcesses(record, this.#options.bootId), AbortSignal.timeout(UNDO_MS))
      throw error
    }
  }

  /** Streams for the Create call of a container in a user namespace that needs none: see {@link openQuietStreams}. */
  async quietStreams({ task }: ShimRecord): Promise<QuietStreams> {
    return openQuietStreams(this.#deps.libc, task.bundleDir)
  }

  /** Who serves the Task API there. @throws CodedError `Internal` when none of the machine's processes is the shim. */
  async identify(record: ShimRecord, endpoint: TaskEndpoint, signal: AbortSignal): Promise<ProcessIdentity> {
    const { bootId, callMs: timeoutMs } = this.#options
    const { shim_pid: pid } = await this.service(endpoint).connect({ id: record.id }, { timeoutMs, signal })
    const process = isShimOf(record, pid) ? identifyProcess(pid, bootId) : findShimProcesses(record, bootId)[0]
    if (process) return process
    throw new CodedError('Internal', `start shim of ${record.id}: it serves ${endpoint.address}, but no process is it`)
  }

  /** The shim if it was started and runs, found without anybody having written that down. */
  async find(record: ShimRecord): Promise<StartedShim | null> {
    const endpoint = await readBootstrap(record)
    const [process] = findShimProcesses(record, this.#options.bootId)
    return endpoint && process ? { endpoint, process } : null
  }

  /** Whether any process of the shim is there. What this says is certain. */
  isRunning(record: ShimRecord): boolean {
    return findShimProcesses(record, this.#options.bootId).length > 0
  }

  /** The Task service of the shim. @throws CodedError `FailedPrecondition` for one that cannot be spoken to. */
  service(endpoint: TaskEndpoint): TaskService {
    return this.#deps.services.at(endpoint)
  }

  /**
   * Kills all tasks in the shim but the pause container, whoever made them. The shim goes on, and tells how they ended.
   * @throws CodedError `FailedPrecondition` when one cannot be killed.
   */
  async killOthers(
    record: ShimRecord,
    shim: ProcessIdentity,
    pause: ProcessIdentity,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#removal.killOthers(record, shim, pause, signal)
  }

  /**
   * Ends the shim with all its tasks, whoever made them, and removes what they leave. The bundle directory stays.
   * Returns when its process is gone. Nothing there is success.
   * @param known its process, if that is known; otherwise it is looked for.
   * @throws CodedError `FailedPrecondition` when something of it cannot be killed.
   */
  async delete(record: ShimRecord, known: ProcessIdentity | null, signal: AbortSignal): Promise<void> {
    const taken = this.#taken.get(record.id)
    this.#taken.delete(record.id)
    await this.#removal.delete(record, known ?? taken?.process ?? null, signal)
  }

  /**
   * Ends what is left of a pod whose shim is gone, whoever had it made, and removes what the runtime keeps of it.
   * @param known processes of the pod; dead ones say nothing.
   */
  async endMembers(record: ShimRecord, known: readonly ProcessIdentity[], signal: AbortSignal): Promise<void> {
    await this.#removal.endMembers(record, await membersOf(known), signal)
  }

  /** How many are ready for a sandbox. */
  get warm(): number {
    return this.#warm.size
  }

  /** The shims of this daemon on the machine that have a sandbox. */
  listOwned(): readonly (FoundShim & { readonly taskId: string })[] {
    return listShims(this.#options.ownerAddress).flatMap((shim) => {
      const taskId = this.#warm.taskOf(shim.id)
      return taskId === null || !/^[0-9a-f]{64}$/.test(taskId) ? [] : [{ ...shim, taskId }]
    })
  }

  /** Ends the shims that an earlier daemon had ready. */
  async endLeft(): Promise<void> {
    await this.#warm.endLeft()
  }

  /** Ends those that are ready; sandboxes keep theirs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#warm[Symbol.asyncDispose]()
  }

  /** One that no sandbox has. */
  async #endUnused(record: ShimRecord, signal: AbortSignal): Promise<void> {
    const shim = listShims(this.#options.ownerAddress).find(({ id }) => id === record.id)
    await this.#removal.delete(shim ? { ...record, namespace: shim.namespace } : record, null, signal)
    await removeTree(record.bundleDir)
  }
}
