import { constants } from 'node:os'
import { dirname } from 'node:path'
import { canonicalJson } from '../core/canonical-json.ts'
import { sleep } from '../core/deadline.ts'
import { CodedError, errorCode } from '../core/errors.ts'
import type { Shims } from '../executor/shim/shims.ts'
import type { ShimRecord, StartedShim, TaskOptions } from '../executor/shim/types.ts'
import type { TaskService } from '../executor/task/types.ts'
import type { ExitStatus, OciRuntime, TaskEndpoint } from '../executor/types.ts'
import { identifyProcess, isAlive, type ProcessIdentity } from '../host/process.ts'
import type { Controller, ControllerStatus, SandboxNamespaces, SandboxSpec } from './controller.ts'
import { joinedNamespaces, type PauseContainers, type PauseRecord } from './pause-container.ts'
import { observedExit } from '../client/exit.ts'
import { unknownExit } from '../core/unknown-exit.ts'

/** A sandbox that a shim runs: its pause container is the first task. */
export interface ShimV2Record extends PauseRecord, Readonly<Record<string, unknown>> {
  readonly shim: ShimRecord
  /** Once it was started. */
  readonly started: StartedShim | null
}

/** Which shim runs a sandbox, and with what. */
export interface ShimChoice {
  readonly runtimeType: string
  readonly namespace: string
  readonly eventsAddress: string
  readonly options: TaskOptions | null
  /** What the shim runs the pause container with; an empty path when it runs no OCI runtime. */
  readonly runtime: OciRuntime
}

export interface ShimV2Options {
  /** The directory in which each sandbox has its state directory. */
  readonly stateParent: string
  /** @throws CodedError for a sandbox that no shim is to run. */
  readonly choose: (spec: SandboxSpec) => ShimChoice
  /** One call that runs an OCI runtime. */
  readonly runtimeMs: number
  /** Any other call. */
  readonly callMs: number
  readonly bootId: string
}

const SIGKILL = 9
/** From SIGKILL to the end of a process; only one in uninterruptible sleep takes longer. */
const KILL_MS = 5000
/** For what is read while somebody waits for an answer that can do without it. */
const READ_MS = 2000
/** From one try to wait to the next, at first and at most. */
const RETRY_MS = { first: 50, most: 2000 }

/**
 * Runs each sandbox as one containerd shim with a pause container as its first task. The shim serves the Task API for the
 * containers of the sandbox, and outlives us.
 */
export class ShimV2Controller implements Controller<ShimV2Record> {
  readonly name = 'shim-v2'
  readonly networkFirst = false
  readonly remote = false
  readonly #options: ShimV2Options
  readonly #shims: Shims
  readonly #pauses: PauseContainers
  /** What `start` has told, until it is in the record. */
  readonly #started = new Map<string, StartedShim>()

  constructor(options: ShimV2Options, deps: { readonly shims: Shims; readonly pauses: PauseContainers }) {
    this.#options = options
    this.#shims = deps.shims
    this.#pauses = deps.pauses
  }

  async plan(spec: SandboxSpec): Promise<ShimV2Record> {
    const { runtime, ...choice } = this.#options.choose(spec)
    const [pause, shim] = await Promise.all([
      this.#pauses.plan(spec, runtime),
      this.#shims.plan({ ...choice, id: spec.id, bundleDir: spec.stateDir, netnsPath: spec.netnsPath }),
    ])
    return { ...pause, shim, started: null }
  }

  parse(record: unknown): ShimV2Record {
    const pause = this.#pauses.parse(record, this.#options.stateParent)
    const { shim, started = null } = record as Partial<ShimV2Record>
    if (started !== null && typeof started.endpoint?.address !== 'string') {
      throw new CodedError('DataLoss', `shim record: ${canonicalJson(record)} is not one of ours`)
    }
    const { id, bundleDir } = pause.container
    return { ...pause, shim: this.#shims.parse(shim, id, bundleDir), started }
  }

  adopt(record: ShimV2Record): void {
    this.#pauses.adopt(record)
  }

  async create(record: ShimV2Record, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    await this.#pauses.writeBundle(record, spec, joinedNamespaces(spec), signal)
    const shim = await this.#shims.start(record.shim, signal)
    const { options } = record.shim
    const { id, bundleDir } = record.shim.task
    const any = options && { type_url: options.typeUrl, value: Buffer.from(options.value, 'base64') }
    const call = { timeoutMs: this.#options.runtimeMs, signal }
    await using streams = record.container.hasUserns ? await this.#shims.quietStreams(record.shim) : undefined
    const { stdin = '', stdout = '', stderr = '' } = streams ?? {}
    const [process] = await Promise.all([
      shim.process ?? this.#shims.identify(record.shim, shim.endpoint, signal),
      this.#shims.service(shim.endpoint).create({ id, bundle: bundleDir, options: any, stdin, stdout, stderr }, call),
    ])
    this.#started.set(id, { endpoint: shim.endpoint, process })
  }

  async start(record: ShimV2Record, signal: AbortSignal): Promise<ProcessIdentity> {
    const { id } = record.shim.task
    const shim = await this.#shim(record)
    if (!shim) throw new CodedError('FailedPrecondition', `start sandbox ${id}: its shim has ended`)
    const service = this.#shims.service(shim.endpoint)
    const { pid } = await service.start({ id }, { timeoutMs: this.#options.runtimeMs, signal })
    return this.#process(pid, shim)
  }

  startedRecord(record: ShimV2Record): ShimV2Record {
    return { ...record, started: this.#started.get(record.shim.task.id) ?? record.started }
  }

  /** Null before `create`. */
  tasks(record: ShimV2Record): (TaskEndpoint & { readonly announced: boolean }) | null {
    const { started } = this.startedRecord(record)
    return started && { ...started.endpoint, announced: false }
  }

  async stop(
    record: ShimV2Record,
    process: ProcessIdentity | null,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const shim = await this.#shim(record)
    if (shim && process) await this.#shims.killOthers(record.shim, shim.process, process, signal)
    // A process on this node is told by itself, which takes no program, and no shim that answers.
    const isHere = process?.pid !== shim?.process.pid && record.container.runtime.path !== ''
    if (!shim || (process && isHere)) return this.#pauses.stop(record, process, graceMs, signal)
    const service = this.#shims.service(shim.endpoint)
    const { stopSignal } = record
    const number = typeof stopSignal === 'number' ? stopSignal : constants.signals[stopSignal]
    if (graceMs > 0 && (await this.#ends(service, record, number, graceMs, signal))) return
    if (await this.#ends(service, record, SIGKILL, KILL_MS, signal)) return
    const { id } = record.shim.task
    throw new CodedError('FailedPrecondition', `stop sandbox ${id}: it is still there ${KILL_MS} ms after SIGKILL`)
  }

  /** A lost connection is no end: it is asked again as long as the shim is there. Without its shim, a sandbox is ended. */
  async wait(record: ShimV2Record, process: ProcessIdentity | null, signal: AbortSignal): Promise<ExitStatus> {
    if (!process) return (await this.status(record, null)).exit ?? unknownExit()
    for (let pauseMs = RETRY_MS.first; ; pauseMs = Math.min(pauseMs * 2, RETRY_MS.most)) {
      try {
        const shim = await this.#shim(record)
        if (shim) return await this.#exit(shim, record, { timeoutMs: 0, signal })
      } catch (error) {
        signal.throwIfAborted()
        // Another took the task away, when it had ended.
        if (errorCode(error) === 'NotFound' && !this.#isAlive(process)) return unknownExit()
      }
      if (!this.#shims.isRunning(record.shim)) {
        await this.#shims.endMembers(record.shim, [process], signal)
        await this.#pauses.stop(record, process, 0, signal)
        return unknownExit()
      }
      await sleep(pauseMs * (0.5 + Math.random()), signal)
    }
  }

  namespaces(_record: ShimV2Record, process: ProcessIdentity | null): SandboxNamespaces {
    return this.#pauses.namespaces(process)
  }

  async status(record: ShimV2Record, known: ProcessIdentity | null): Promise<ControllerStatus> {
    const shim = await this.#shim(record)
    if (!shim) return { state: 'stopped', process: known, exit: null }
    const timeoutMs = Math.min(this.#options.callMs, READ_MS)
    const call = { timeoutMs, signal: new AbortController().signal }
    try {
      const { id } = record.shim.task
      const {
        status,
        pid,
        exit_status: code,
        exited_at: at,
      } = await this.#shims.service(shim.endpoint).state({ id }, call)
      if (status === 'STOPPED') return { state: 'stopped', process: known, exit: observedExit(code, at) }
      return { state: 'running', process: known ?? this.#process(pid, shim), exit: null }
    } catch (error) {
      if (errorCode(error) === 'NotFound') return { state: 'stopped', process: known, exit: null }
      // A shim that does not answer may do so later; the process is there for all to see.
      if (known && this.#isAlive(known)) return { state: 'running', process: known, exit: null }
      return { state: 'unknown', process: known, exit: null }
    }
  }

  async shutdown(record: ShimV2Record, signal: AbortSignal): Promise<void> {
    const known = this.startedRecord(record).started?.process ?? null
    await this.#shims.delete(record.shim, known, signal)
    await this.#pauses.delete(record, signal)
    this.#started.delete(record.shim.task.id)
  }

  async info(record: ShimV2Record): Promise<Readonly<Record<string, unknown>>> {
    const { binary, namespace } = record.shim
    const { started } = this.startedRecord(record)
    const shim = { binary, namespace, pid: started?.process.pid ?? null, ...started?.endpoint }
    return { ...(await this.#pauses.info(record)), shim }
  }

  async listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]> {
    const parent = dirname(this.#options.stateParent)
    return this.#shims.listOwned().map(({ taskId, pid }) => ({ ownerId: taskId, subject: `shim ${pid} of ${parent}` }))
  }

  /** The shim if it runs. */
  async #shim(record: ShimV2Record): Promise<StartedShim | null> {
    const { started } = this.startedRecord(record)
    if (started && this.#isAlive(started.process)) return started
    const found = await this.#shims.find(record.shim)
    if (found) this.#started.set(record.shim.task.id, found)
    return found
  }

  #isAlive(process: ProcessIdentity): boolean {
    return isAlive(process, this.#options.bootId)
  }

  /** A pause process in a virtual machine is not to be seen: the shim stands in for it. */
  #process(pid: number, shim: StartedShim): ProcessIdentity {
    return (pid > 0 ? identifyProcess(pid, this.#options.bootId) : null) ?? shim.process
  }

  async #exit(
    { endpoint }: StartedShim,
    { container: { id } }: ShimV2Record,
    call: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<ExitStatus> {
    const { exit_status: code, exited_at: at } = await this.#shims.service(endpoint).wait({ id }, call)
    return observedExit(code, at)
  }

  /** Signals the pause process; whether it has ended within this time. */
  async #ends(
    service: TaskService,
    { container: { id } }: ShimV2Record,
    number: number,
    withinMs: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      await service.kill({ id, signal: number }, { timeoutMs: this.#options.callMs, signal })
      await service.wait({ id }, { timeoutMs: withinMs, signal })
      return true
    } catch (error) {
      signal.throwIfAborted()
      const code = errorCode(error)
      if (code === 'NotFound') return true
      if (code === 'DeadlineExceeded') return false
      throw error
    }
  }
}
