import { dirname } from 'node:path'
import type { ExitStatus } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Controller, ControllerStatus, SandboxNamespaces, SandboxSpec } from './controller.ts'
import { joinedNamespaces, type PauseContainers, type PauseRecord } from './pause-container.ts'
import { unknownExit } from '../core/unknown-exit.ts'

export type ShimRecord = PauseRecord & Readonly<Record<string, unknown>>

/** Runs each sandbox as one pause container on an OCI runtime, which holds all of the pod's namespaces. */
export class ShimController implements Controller<ShimRecord> {
  readonly name = 'shim'
  readonly networkFirst = false
  readonly remote = false
  readonly #pauses: PauseContainers
  readonly #stateParent: string

  /** @param options.stateParent the directory in which each sandbox has its state directory. */
  constructor(options: { readonly stateParent: string }, deps: { readonly pauses: PauseContainers }) {
    this.#stateParent = options.stateParent
    this.#pauses = deps.pauses
  }

  async plan(spec: SandboxSpec): Promise<ShimRecord> {
    return { ...(await this.#pauses.plan(spec)) }
  }

  parse(record: unknown): ShimRecord {
    return { ...this.#pauses.parse(record, this.#stateParent) }
  }

  adopt(record: ShimRecord): void {
    this.#pauses.adopt(record)
  }

  async create(record: ShimRecord, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    await this.#pauses.create(record, spec, joinedNamespaces(spec), signal)
  }

  async start(record: ShimRecord, signal: AbortSignal): Promise<ProcessIdentity | null> {
    return this.#pauses.start(record, signal)
  }

  async stop(record: ShimRecord, process: ProcessIdentity | null, graceMs: number, signal: AbortSignal): Promise<void> {
    await this.#pauses.stop(record, process, graceMs, signal)
  }

  async wait(record: ShimRecord, process: ProcessIdentity | null, signal: AbortSignal): Promise<ExitStatus> {
    // Without a process to watch there is nothing left to wait for.
    if (!process) return (await this.#pauses.status(record, null)).exit ?? unknownExit()
    return this.#pauses.wait(record, process, signal)
  }

  namespaces(_record: ShimRecord, process: ProcessIdentity | null): SandboxNamespaces {
    return this.#pauses.namespaces(process)
  }

  async status(record: ShimRecord, process: ProcessIdentity | null): Promise<ControllerStatus> {
    return this.#pauses.status(record, process)
  }

  async shutdown(record: ShimRecord, signal: AbortSignal): Promise<void> {
    await this.#pauses.delete(record, signal)
  }

  async info(record: ShimRecord): Promise<Readonly<Record<string, unknown>>> {
    return this.#pauses.info(record)
  }

  async listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]> {
    const parent = dirname(this.#stateParent)
    return this.#pauses
      .listOwned(this.#stateParent)
      .map(({ id, pid }) => ({ ownerId: id, subject: `conmon ${pid} of ${parent}` }))
  }
}
