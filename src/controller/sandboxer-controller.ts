import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError, errorCode } from '../core/errors.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Controller, SandboxNamespaces, ControllerStatus, SandboxSpec } from './controller.ts'
import type { SandboxerClient } from './sandboxer-client.ts'
import { createRequest, fromTimestamp, unknownExit } from './sandboxer-messages.ts'
import { nowNs } from '../core/now.ts'
import { SandboxerWait } from './sandboxer-wait.ts'

/** How long a peer may go on with a Create that was cut short. Until then, not to know the sandbox says little. */
const MAY_APPEAR_MS = 20_000

/** Where the containers of a sandbox are run. */
export interface TaskEndpoint {
  /** As the sandboxer gave it, e.g. `ttrpc+unix:///path`; `''` before the sandbox was started. */
  readonly taskAddress: string
  /** Of the Task service. */
  readonly version: number
}

export interface SandboxerRecord extends TaskEndpoint, Readonly<Record<string, unknown>> {
  readonly sandboxer: string
  /** Where the sandboxer was when it got this sandbox. */
  readonly address: string
  readonly id: string
}

export interface SandboxerOptions {
  /** The name of the sandboxer in the configuration. */
  readonly name: string
  /** For people and for the record: `unix:///path`. */
  readonly address: string
  /** One call. */
  readonly remoteMs: number
  /** Create and Start, which may boot a virtual machine. */
  readonly runtimeMs: number
}

export interface SandboxerDeps {
  readonly client: SandboxerClient
  /** The protobuf form of a pod's configuration. */
  readonly encodeConfig: (config: PodSandboxConfig) => Buffer
}

/**
 * Has sandboxes run by a remote sandboxer: another process that serves containerd's sandbox Controller API.
 * Its processes are not ours to see: what is known of a sandbox is what the peer says.
 */
export class SandboxerController implements Controller<SandboxerRecord> {
  readonly name: string
  readonly networkFirst = true
  readonly remote = true
  readonly #options: SandboxerOptions
  readonly #deps: SandboxerDeps
  readonly #endpoints = new Map<string, TaskEndpoint>()
  readonly #waits = new Map<string, SandboxerWait>()
  /** Sandboxes that the peer has not been told of: there is nothing there to stop or to remove. */
  readonly #planned = new Set<string>()
  /** Until when a sandbox may still appear at the peer, since nobody waited for the end of its Create. */
  readonly #mayAppearUntilMs = new Map<string, number>()

  constructor(options: SandboxerOptions, deps: SandboxerDeps) {
    this.name = options.name
    this.#options = options
    this.#deps = deps
  }

  async plan({ id }: SandboxSpec): Promise<SandboxerRecord> {
    this.#planned.add(id)
    return { sandboxer: this.name, address: this.#options.address, id, taskAddress: '', version: 0 }
  }

  parse(record: unknown): SandboxerRecord {
    const { sandboxer, address, id, taskAddress, version } = (record ?? {}) as Partial<SandboxerRecord>
    const isOurs =
      sandboxer === this.name &&
      /^[0-9a-f]{64}$/.test(id ?? '') &&
      typeof taskAddress === 'string' &&
      isVersion(version)
    if (isOurs && typeof id === 'string') return { sandboxer, address: String(address), id, taskAddress, version }
    throw new CodedError(
      'DataLoss',
      `record of sandboxer ${this.name}: ${canonicalJson(record ?? null)} is not its own`,
    )
  }

  adopt({ id, taskAddress, version }: SandboxerRecord): void {
    if (taskAddress !== '') this.#endpoints.set(id, { taskAddress, version })
  }

  async create({ id }: SandboxerRecord, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    const request = createRequest(spec, this.#deps.encodeConfig, nowNs())
    // From here on it may be there, also when this fails.
    this.#planned.delete(id)
    try {
      await this.#deps.client.create(request, { timeoutMs: this.#options.runtimeMs, signal })
    } catch (error) {
      if (signal.aborted || errorCode(error) === 'DeadlineExceeded') {
        this.#mayAppearUntilMs.set(id, performance.now() + MAY_APPEAR_MS)
      }
      throw error
    }
  }

  async start({ id }: SandboxerRecord, signal: AbortSignal): Promise<null> {
    const { address, version } = await this.#deps.client.start(id, { timeoutMs: this.#options.runtimeMs, signal })
    this.#endpoints.set(id, { taskAddress: address, version })
    return null
  }

  startedRecord(record: SandboxerRecord): SandboxerRecord {
    return { ...record, ...this.#endpoints.get(record.id) }
  }

  async stop({ id }: SandboxerRecord, _process: null | ProcessIdentity, graceMs: number, signal: AbortSignal) {
    if (this.#planned.has(id)) return
    const call = { timeoutMs: graceMs + this.#options.remoteMs, signal }
    try {
      await unlessGone(this.#deps.client.stop(id, graceMs, call))
    } finally {
      // It has ended now, or its sandboxer has a problem: either way what is known of it is old.
      this.#waits.get(id)?.wake()
    }
  }

  async wait(
    { id }: SandboxerRecord,
    _process: ProcessIdentity | null,
    signal: AbortSignal,
    onReachable: (reachable: boolean) => void = () => undefined,
  ): Promise<ExitStatus> {
    const onStatus = (status: { readonly address: string; readonly version: number }): void => {
      if (status.address !== '') this.#endpoints.set(id, { taskAddress: status.address, version: status.version })
    }
    const timeoutMs = this.#options.remoteMs
    const wait = new SandboxerWait({ id, timeoutMs, signal, onReachable, onStatus }, this.#deps)
    this.#waits.set(id, wait)
    try {
      return await wait.ended()
    } finally {
      if (this.#waits.get(id) === wait) this.#waits.delete(id)
    }
  }

  namespaces(): SandboxNamespaces {
    throw new CodedError('Unimplemented', `run a container in a pod of ${this.name}: that sandboxer runs them itself`)
  }

  async status({ id }: SandboxerRecord): Promise<ControllerStatus> {
    try {
      const { state, exited_at: at } = await this.#deps.client.status(id, false, this.#call())
      if (state === 'SANDBOX_READY') return { state: 'running', process: null, exit: null }
      if (state !== 'SANDBOX_NOTREADY') return { state: 'unknown', process: null, exit: null }
      return { state: 'stopped', process: null, exit: unknownExit(fromTimestamp(at)) }
    } catch (error) {
      // What the peer does not know does not run; what a peer that does not answer knows, nobody knows.
      const state = errorCode(error) === 'NotFound' ? 'stopped' : 'unknown'
      return { state, process: null, exit: null }
    }
  }

  async shutdown({ id }: SandboxerRecord, signal: AbortSignal): Promise<void> {
    if (!this.#planned.delete(id)) {
      const isGone = await unlessGone(this.#deps.client.shutdown(id, { timeoutMs: this.#options.remoteMs, signal }))
      if (isGone && performance.now() < (this.#mayAppearUntilMs.get(id) ?? 0)) {
        throw new CodedError(
          'Unavailable',
          `sandboxer ${this.name}: shut down sandbox ${id}: it may still be made there`,
        )
      }
    }
    this.#mayAppearUntilMs.delete(id)
    this.#endpoints.delete(id)
    this.#waits.get(id)?.abandon()
  }

  async info(record: SandboxerRecord): Promise<Readonly<Record<string, unknown>>> {
    const { taskAddress, version } = this.startedRecord(record)
    const { state, pid, info } = await this.#deps.client.status(record.id, true, this.#call())
    return { runtimeSpec: null, remote: { address: this.#options.address, taskAddress, version, state, pid, info } }
  }

  async listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]> {
    // The API has no list: a peer tells only of sandboxes that one knows of.
    return []
  }

  #call(): { timeoutMs: number; signal: AbortSignal } {
    return { timeoutMs: this.#options.remoteMs, signal: new AbortController().signal }
  }
}

function isVersion(version: unknown): version is number {
  return typeof version === 'number' && Number.isInteger(version) && version >= 0
}

/** What is to be stopped or removed and is not there is no failure. Returns whether that was so. */
async function unlessGone(call: Promise<void>): Promise<boolean> {
  try {
    await call
    return false
  } catch (error) {
    if (errorCode(error) !== 'NotFound') throw error
    return true
  }
}
