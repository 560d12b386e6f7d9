import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { isMissing, removeTree } from '../../host/files.ts'
import { isAlive, type ProcessIdentity, signalProcess } from '../../host/process.ts'
import { freeSocketPath } from '../../host/socket-path.ts'
import { endsWithin } from '../container-process.ts'
import { parseTaskEndpoint } from '../task/task-address.ts'
import type { TaskService } from '../task/types.ts'
import type { TtrpcTarget } from '../../ttrpc/connect.ts'
import type { TaskEndpoint } from '../types.ts'
import { readBootstrap, runShimDelete } from './bootstrap.ts'
import { clearUpMembers, containerIds, findMembers, type Member, membersOf, runtimeRoots } from './members.ts'
import { runtimeOf } from './runtime-options.ts'
import { childrenOf, findShimProcesses } from './shim-process.ts'
import { isKnown, removeTask, type TaskLimits } from './shim-tasks.ts'
import type { ShimsDeps, ShimsOptions } from './shims.ts'
import type { ShimRecord } from './types.ts'

/** One that does not answer a question within this time, when its sandbox is to end, is killed. */
const ANSWER_MS = 3000
/** A shim that has no tasks any more ends at once when it is told to. */
const SHUTDOWN_MS = 1000
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000

/** Ends shims and what is in them, also those that do not do as they are told, and those that have died. */
export class ShimRemoval {
  readonly #options: ShimsOptions
  readonly #deps: ShimsDeps
  readonly #limits: TaskLimits

  constructor(options: ShimsOptions, deps: ShimsDeps) {
    this.#options = options
    this.#deps = deps
    this.#limits = { callMs: Math.min(options.callMs, ANSWER_MS), runtimeMs: options.runtimeMs }
  }

  /** See `Shims.killOthers`. */
  async killOthers(
    record: ShimRecord,
    shim: ProcessIdentity,
    pause: ProcessIdentity,
    signal: AbortSignal,
  ): Promise<void> {
    // The children of other shims than that of runc are their own business, such as a virtual machine.
    if (!runtimeOf(record.options, record.namespace, this.#deps.messages)) return
    const { bootId } = this.#options
    const others = (): ProcessIdentity[] =>
      childrenOf(shim.pid, bootId).filter((child) => child.pid !== pause.pid && isAlive(child, bootId))
    // What a process leaves becomes a child of the shim, too.
    for (let left = others(); left.length > 0; left = others()) await this.kill(left, signal)
  }

  /** See `Shims.delete`. */
  async delete(record: ShimRecord, known: ProcessIdentity | null, signal: AbortSignal): Promise<void> {
    const { bootId } = this.#options
    const endpoint = await readBootstrap(record)
    const processes = known && isAlive(known, bootId) ? [known] : findShimProcesses(record, bootId)
    // Who goes when the shim does: their cgroups are named after the tasks.
    const children = await membersOf(processes.flatMap(({ pid }) => childrenOf(pid, bootId)))
    const isClean =
      endpoint !== null &&
      processes.length > 0 &&
      (await this.#empty(record, endpoint, { processes, children }, signal))
    if (!isClean) {
      await this.kill(findShimProcesses(record, bootId), signal)
      await this.endMembers(record, children, signal)
      // Without a start there is nothing that it could have made.
      if (endpoint) await this.#clearUp(record, signal)
    }
    await freeSocket(endpoint ? parseTaskEndpoint(endpoint).target : { path: socketPath(record) })
    if (record.bundleDir !== record.task.bundleDir) await removeTree(record.bundleDir)
  }

  /** See `Shims.endMembers`. */
  async endMembers(record: ShimRecord, known: readonly Member[], signal: AbortSignal): Promise<void> {
    const { bootId, runtimeMs: timeoutMs } = this.#options
    const ended = [...known]
    // Until there are none: those that were just starting others have done so by the second time.
    for (;;) {
      const alive = known.map(({ process }) => process).filter((process) => isAlive(process, bootId))
      const members = await findMembers({ netnsPath: record.netnsPath, known: alive }, bootId)
      if (members.length === 0) break
      ended.push(...members)
      const processes = members.map(({ process }) => process)
      await this.kill(processes, signal)
    }
    if (ended.length === 0) return
    const { messages, run } = this.#deps
    const { path = '', root = '' } = runtimeOf(record.options, record.namespace, messages) ?? {}
    const runtime = { path, root, namespace: record.namespace }
    const problems = await clearUpMembers(ended, runtime, { run, timeoutMs, signal })
    this.#warn(record, 'a shim is gone: what was left of its sandbox was ended', { processes: ended.length, problems })
  }

  /** @throws CodedError `FailedPrecondition` when not even SIGKILL ended one. */
  async kill(processes: readonly ProcessIdentity[], signal: AbortSignal): Promise<void> {
    for (const process of processes) signalProcess(this.#deps.libc, process, this.#options.bootId, 'SIGKILL')
    if (await this.#endWithin(processes, KILL_MS, signal)) return
    const pids = processes.map(({ pid }) => pid).join(', ')
    throw new CodedError('FailedPrecondition', `end shim: one of ${pids} is still there ${KILL_MS} ms after SIGKILL`)
  }

  /** Has the shim remove all tasks and end. False when it did not do as it was told. */
  async #empty(
    record: ShimRecord,
    endpoint: TaskEndpoint,
    { processes, children }: { readonly processes: readonly ProcessIdentity[]; readonly children: readonly Member[] },
    signal: AbortSignal,
  ): Promise<boolean> {
    const { id } = record.task
    const service = this.#deps.services.at(endpoint)
    try {
      // One that does not answer is found out now, and not after as long as a runtime may take.
      await service.connect({ id }, { timeoutMs: this.#limits.callMs, signal })
      await this.#removeTasks(containerIds(children), record, service, signal)
      await removeTask(service, id, this.#limits, signal)
      await this.#shutdown(id, service, signal)
      if (await this.#endWithin(processes, SHUTDOWN_MS, signal)) return true
      // It has tasks of which no process is left. Whose they are is not to be seen: it is asked for all of the runtime.
      await this.#removeTasks(await this.#runtimeIds(record), record, service, signal)
      await this.#shutdown(id, service, signal)
      return await this.#endWithin(processes, SHUTDOWN_MS, signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#warn(record, 'a shim did not remove its tasks, and is killed', { error: errorMessage(error) })
      return false
    }
  }

  async #shutdown(id: string, service: TaskService, signal: AbortSignal): Promise<void> {
    const call = { timeoutMs: this.#limits.callMs, signal }
    // One that ends before it has answered has done what it was to do.
    await service.shutdown({ id, now: false }, call).catch((error: unknown) => {
      if (errorCode(error) !== 'Unavailable') throw error
    })
  }

  /** Removes those of these tasks that the shim knows. There is no call that lists them. */
  async #removeTasks(
    ids: readonly string[],
    record: ShimRecord,
    service: TaskService,
    signal: AbortSignal,
  ): Promise<void> {
    const others = ids.filter((id) => id !== record.task.id)
    await Promise.all(
      others.map(async (id) => {
        if (await isKnown(service, id, this.#limits, signal)) await removeTask(service, id, this.#limits, signal)
      }),
    )
  }

  /** The containers of which a runtime of this shim may have a state. */
  async #runtimeIds(record: ShimRecord): Promise<string[]> {
    const root = runtimeOf(record.options, record.namespace, this.#deps.messages)?.root ?? ''
    const lists = runtimeRoots(root, record.namespace).map((directory) => readdir(directory).catch(() => []))
    return (await Promise.all(lists)).flat()
  }

  async #clearUp(record: ShimRecord, signal: AbortSignal): Promise<void> {
    if (await isMissing(record.task.bundleDir)) return
    const { runtimeMs: timeoutMs, searchPath } = this.#options
    try {
      await runShimDelete(record, { searchPath, timeoutMs }, this.#deps, signal)
    } catch (error) {
      signal.throwIfAborted()
      // It may have been uninstalled. What it would have removed, its owner removes by the runtime and the cgroup.
      this.#warn(record, 'the program of a shim could not clear up', { error: errorMessage(error) })
    }
  }

  async #endWithin(processes: readonly ProcessIdentity[], timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    const { bootId } = this.#options
    const ends = await Promise.all(processes.map((process) => endsWithin(process, bootId, timeoutMs, signal)))
    return ends.every((isEnded) => isEnded)
  }

  #warn({ task }: ShimRecord, message: string, fields: Readonly<Record<string, unknown>>): void {
    this.#deps.logger.warn({ sandboxId: task.id, ...fields }, message)
  }
}

/**
 * Where shims made with containerd's package `shim` make their sockets (its `SocketAddress`). By this the file is found of one
 * that was cut off before it could tell. The path is made of our own, and so nobody else's.
 */
function socketPath({ ownerAddress, namespace, id }: ShimRecord): string {
  const hash = createHash('sha256')
    .update(join(ownerAddress, namespace, id))
    .digest('hex')
  return `/run/containerd/s/${hash}`
}

/** A shim that was killed leaves the file of its socket. */
async function freeSocket({ path, vsockPort }: TtrpcTarget): Promise<void> {
  if (vsockPort !== undefined) return
  try {
    await freeSocketPath(path)
  } catch (error) {
    // Somebody serves it: then it is not what the shim has left.
    if (errorCode(error) !== 'FailedPrecondition') throw error
  }
}
