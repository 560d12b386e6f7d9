import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { freezeCgroup, thawCgroup } from '../host/cgroup/cgroup.ts'
import { isMissing, makeDirectory } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import { cgroupsOf, identifyProcess, listPids, type ProcessIdentity, signalProcess } from '../host/process.ts'
import type { Programs } from '../host/programs/programs.ts'
import { cgroupDirectory } from './cgroup-directory.ts'
import { Criu, criuErrors } from './criu.ts'
import { isMonitorOf, MONITOR_PIDFILE, monitorAnswer, monitorArguments, monitorEnvironment } from './monitor.ts'
import type { RuntimeCommands } from './runtime-commands.ts'
import type { ContainerIo, ContainerRecord } from './types.ts'

export interface ProcessCheckpointsOptions {
  readonly conmonPath: string
  readonly exitsDir: string
  readonly bootId: string
  readonly criuPath: string
}

export interface ProcessCheckpointsDeps {
  readonly libc: Libc
  readonly programs: Programs
  readonly runtimes: RuntimeCommands
  readonly cgroupMounts: Parameters<typeof freezeCgroup>[0]
}

/** Writes the processes of containers under conmon to files and makes containers of such files, with criu. */
export class ProcessCheckpoints {
  readonly #options: ProcessCheckpointsOptions
  readonly #deps: ProcessCheckpointsDeps
  readonly #criu: Criu

  constructor(options: ProcessCheckpointsOptions, deps: ProcessCheckpointsDeps) {
    this.#options = options
    this.#deps = deps
    this.#criu = new Criu({ path: options.criuPath }, deps)
  }

  /**
   * Makes sure that containers of this runtime can be checkpointed and restored on this node.
   * @throws CodedError `FailedPrecondition` that says what cannot: the runtime, criu or the kernel.
   */
  async check(runtimePath: string, what: string, signal: AbortSignal): Promise<void> {
    if (!(await this.#deps.runtimes.features(runtimePath, signal)).checkpoint) {
      throw new CodedError('FailedPrecondition', `${what}: ${runtimePath} was built without criu`)
    }
    await this.#criu.check(what, signal)
  }

  /** Lets no process of the container run, until {@link thaw}. @throws CodedError as `freezeCgroup`. */
  async freeze(record: ContainerRecord, signal: AbortSignal): Promise<void> {
    await freezeCgroup(this.#deps.cgroupMounts, cgroupDirectory(record), signal)
  }

  /** Lets the processes of the container run. Doing so already is success, and so is not being there. */
  async thaw(record: ContainerRecord): Promise<void> {
    await thawCgroup(this.#deps.cgroupMounts, cgroupDirectory(record))
  }

  /**
   * Writes the state of all processes of the container, which may be frozen, into a directory, with criu. They go on.
   * @throws CodedError `FailedPrecondition` with what the runtime and criu said, of a container whose state cannot be
   * saved for instance.
   */
  async save(
    record: ContainerRecord,
    request: { readonly imageDir: string; readonly workDir: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { imageDir, workDir, timeoutMs } = request
    await Promise.all([makeDirectory(imageDir), makeDirectory(workDir)])
    const args = ['checkpoint', '--image-path', imageDir, '--work-path', workDir, '--leave-running', record.id]
    try {
      await this.#deps.runtimes.run(record, args, signal, { timeoutMs, env: this.#criu.env })
    } catch (error) {
      if (errorCode(error) !== 'Internal') throw error
      const errors = await criuErrors(workDir, 'dump.log')
      const why = `checkpoint container ${record.id}: ${errors || errorMessage(error)}`
      throw new CodedError('FailedPrecondition', why, { cause: error })
    }
  }

  /**
   * Makes the container with processes in the state that {@link save} has written; they run when this returns.
   * The bundle directory holds config.json.
   *
   * @throws CodedError `FailedPrecondition` with what the runtime and criu said; `ConmonExecutor.delete` then clears up.
   */
  async restore(
    record: ContainerRecord,
    request: { readonly imageDir: string; readonly io: ContainerIo; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ProcessIdentity> {
    const { imageDir, io, timeoutMs } = request
    const { conmonPath, exitsDir, bootId } = this.#options
    const { libc, programs } = this.#deps
    const { id, bundleDir } = record
    const args = [...monitorArguments(record, exitsDir, io), '--restore', imageDir]
    const env = { ...monitorEnvironment(record, io), ...this.#criu.env }
    const options = { cwd: bundleDir, env, timeoutMs, signal }
    try {
      const pid = monitorAnswer(await programs.launchMonitor(conmonPath, args, options), record)
      const process = identifyProcess(pid, bootId)
      if (!process) throw new CodedError('Internal', `its process ${pid} ended at once`)
      // criu can put it where the checkpointed one was, with the limits of that, or with none.
      const cgroups = [...(await cgroupsOf(pid)).values()]
      if (cgroups.some((path) => path.includes(id))) return process
      signalProcess(libc, process, bootId, 'SIGKILL')
      throw new CodedError('Internal', `its process ${pid} came to be in the cgroup ${cgroups.join(', ')}`)
    } catch (error) {
      if (errorCode(error) !== 'Internal') throw error
      const errors = await criuErrors(bundleDir, 'restore.log')
      const why = `restore container ${id}: ${errors || errorMessage(error)}`
      throw new CodedError('FailedPrecondition', why, { cause: error })
    }
  }

  /** Whether the restore of a container was ever begun. */
  async wasRestored(record: ContainerRecord): Promise<boolean> {
    if (!(await isMissing(join(record.bundleDir, MONITOR_PIDFILE)))) return true
    return listPids().some((pid) => isMonitorOf(record, pid))
  }
}
