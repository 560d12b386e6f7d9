import { basename, join } from 'node:path'
import { CodedError, errorMessage } from '../core/errors.ts'
import { removeCgroup } from '../host/cgroup/cgroup.ts'
import { isMissing, readTextIfAny, removeFile, removeTree } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import { listPids, signalProcess } from '../host/process.ts'
import { cgroupDirectory } from './cgroup-directory.ts'
import type { CgroupParents } from './cgroup-parents.ts'
import { endsWithin, findContainerProcess } from './container-process.ts'
import { CONTAINER_PIDFILE, findMonitor, isMonitorOf } from './monitor.ts'
import type { RuntimeCommands } from './runtime-commands.ts'
import type { ContainerRecord } from './types.ts'

/** A monitor ends by itself once its container has. */
const MONITOR_MS = 1000
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000

export interface RemovalDeps {
  readonly libc: Libc
  readonly runtimes: RuntimeCommands
  readonly parents: CgroupParents
  readonly cgroupMounts: Parameters<typeof removeCgroup>[0]
}

/** Removes containers of OCI runtimes, in whatever state they are. */
export class Removal {
  readonly #options: { readonly exitsDir: string; readonly bootId: string }
  readonly #deps: RemovalDeps

  constructor(options: { readonly exitsDir: string; readonly bootId: string }, deps: RemovalDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** See `ConmonExecutor.delete`. */
  async delete(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const { exitsDir, bootId } = this.#options
    const { libc, parents, cgroupMounts } = this.#deps
    const process = await findContainerProcess(record, bootId)
    if (process) signalProcess(libc, process, bootId, 'SIGKILL')
    else await killUnfinishedMonitor(record)
    await this.#deleteAtRuntime(record, signal)
    await removeCgroup(cgroupMounts, cgroupDirectory(record), signal)
    await this.#awaitMonitor(record, signal)
    await removeFile(join(exitsDir, record.id))
    await parents.release(record)
  }

  async #deleteAtRuntime(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const stateDir = join(record.runtime.root, record.id)
    if (await isMissing(stateDir)) return
    // The cgroup is removed by the caller.
    if (await isDeletedByHand(record, stateDir)) return removeTree(stateDir)
    try {
      await this.#deps.runtimes.run(record, ['delete', '--force', record.id], signal)
    } catch (error) {
      signal.throwIfAborted()
      // Without the runtime, or with a state it cannot read: kill by cgroup (the caller does) and drop the state.
      if (await isMissing(stateDir)) return
      await removeCgroup(this.#deps.cgroupMounts, cgroupDirectory(record), signal).catch((cause: unknown) => {
        throw new CodedError('Internal', `delete container ${record.id}: ${errorMessage(error)}`, { cause })
      })
    }
    await removeTree(stateDir)
  }

  async #awaitMonitor(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const { bootId } = this.#options
    const monitor = await findMonitor(record, bootId)
    if (!monitor || (await endsWithin(monitor, bootId, MONITOR_MS, signal))) return
    signalProcess(this.#deps.libc, monitor, bootId, 'SIGKILL')
    await endsWithin(monitor, bootId, KILL_MS, signal)
  }
}

/** Whether the runtime has to run hooks when the container starts and ends. A mention of them is taken for one. */
export async function hasHooks(record: ContainerRecord): Promise<boolean> {
  return (await readTextIfAny(join(record.bundleDir, 'config.json')))?.includes('"hooks"') ?? false
}

/**
 * Whether what `delete` of the runtime does can be done without it: crun keeps a file `status`, and of a container
 * without hooks nothing but that directory and the cgroup. It saves a process with every pod.
 */
async function isDeletedByHand(record: ContainerRecord, stateDir: string): Promise<boolean> {
  const { runtime } = record
  if (runtime.systemdCgroup || basename(runtime.path) !== 'crun' || (await hasHooks(record))) return false
  return !(await isMissing(join(stateDir, 'status')))
}

/** A monitor that has not written down its container's process may be in the middle of creating it. */
async function killUnfinishedMonitor(record: ContainerRecord): Promise<void> {
  if (await isMissing(record.bundleDir)) return
  if (!(await isMissing(join(record.bundleDir, CONTAINER_PIDFILE)))) return
  for (const pid of listPids().filter((candidate) => isMonitorOf(record, candidate))) {
    try {
      // conmon leads the session in which it runs the runtime.
      process.kill(-pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
}
