import type { RemoteCall, SandboxerClient } from '../client/sandboxer-client.ts'
import { fromTimestamp } from '../client/timestamp.ts'
import { CodedError, type ErrorCode, errorCode, errorMessage } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { AnnouncedTask } from '../executor/task/types.ts'
import type { ExitStatus, TaskEndpoint } from '../executor/types.ts'
import type { Any } from '../generated/google/protobuf/Any.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Controller, ControllerStatus, SandboxNamespaces, SandboxSpec } from './controller.ts'
import { announcement, type ConfigCodec, createRequest, TASKS_FIELD } from './sandboxer-messages.ts'
import {
  parseSandboxerRecord,
  type SandboxerRecord,
  type SandboxRuntime,
  type StartedSandbox,
} from './sandboxer-record.ts'
import { type OnReachable, SandboxerWait, WAIT_TIMING, type WaitTiming } from './sandboxer-wait.ts'
import { unknownExit } from '../core/unknown-exit.ts'

/** How long a peer may go on with a Create that was cut short. Until then, not to know the sandbox says little. */
const MAY_APPEAR_MS = 20_000
/** For what is read while somebody waits for an answer that can do without it. */
const READ_MS = 2000
/**
 * How often one of the sandboxes is looked at, each in turn: so a peer that hangs is noticed for all of them, however many
 * there are.
 */
const PROBE_MS = 5000
/** The first version of the Task service whose Create says all that there is to say of a container. */
const NEEDS_NO_ANNOUNCEMENT = 3

/** What a call ends with that had no answer. */
const UNANSWERED: readonly ErrorCode[] = ['Unavailable', 'DeadlineExceeded', 'Canceled']

export interface SandboxerOptions {
  /** The name of the sandboxer in the configuration. */
  readonly name: string
  /** For people and for the record: `unix:///path`. */
  readonly address: string
  /** Whether the network is set up before it is told to make a sandbox. */
  readonly networkFirst: boolean
  /** How long it may be away before that is told to whoever watches its sandboxes. */
  readonly unreachableGraceMs: number
  /** What the runtime handler of that name stands for at the peer. */
  readonly runtimeOf: (handler: string) => SandboxRuntime
  /** One call. */
  readonly remoteMs: number
  /** Create, Start and Update, which may boot a virtual machine and plug disks into it. */
  readonly runtimeMs: number
  readonly timing?: WaitTiming
}

export interface SandboxerDeps {
  readonly client: SandboxerClient
  readonly codec: ConfigCodec
}

/** What is known of a sandbox beyond its record. */
interface Known {
  started: StartedSandbox | undefined
  wait: SandboxerWait | undefined
  /** The peer has not been told of it: there is nothing there to stop or to remove. */
  isPlanned: boolean
  /** Until when it may still appear at the peer, since nobody waited for the end of its Create. */
  mayAppearUntilMs: number
}

/**
 * Has sandboxes run by a remote sandboxer: another process that serves containerd's sandbox Controller API.
 * Its processes are not ours to see: what is known of a sandbox is what the peer says.
 */
export class SandboxerController implements Controller<SandboxerRecord> {
  readonly name: string
  readonly networkFirst: boolean
  readonly remote = true
  readonly #options: SandboxerOptions
  readonly #deps: SandboxerDeps
  readonly #known = new Map<string, Known>()
  /** The next one to be looked at first. */
  readonly #waits = new Set<SandboxerWait>()
  #probes: NodeJS.Timeout | undefined
  #lostAtMs = Number.NEGATIVE_INFINITY

  constructor(options: SandboxerOptions, deps: SandboxerDeps) {
    this.name = options.name
    this.networkFirst = options.networkFirst
    this.#options = options
    this.#deps = deps
  }

  get address(): string {
    return this.#options.address
  }

  /** Whether the peer is there: it answers, whatever it says. @throws CodedError that says why it is not. */
  async probe(timeoutMs: number): Promise<void> {
    try {
      await this.#deps.client.platform('', this.#call(timeoutMs))
    } catch (error) {
      if (UNANSWERED.includes(errorCode(error))) throw error
    }
  }

  async plan({ id, config, runtimeHandler }: SandboxSpec): Promise<SandboxerRecord> {
    this.#of(id).isPlanned = true
    const { name, namespace, uid, attempt } = config.metadata ?? { name: '', namespace: '', uid: '', attempt: 0 }
    return {
      sandboxer: this.name,
      address: this.#options.address,
      id,
      runtime: this.#options.runtimeOf(runtimeHandler),
      podName: [name, namespace, uid, attempt].join('_'),
      createdAtNs: nowNs().toString(),
      taskAddress: '',
      version: 0,
      pid: 0,
    }
  }

  parse(record: unknown): SandboxerRecord {
    return parseSandboxerRecord(this.name, record)
  }

  adopt({ id, taskAddress, version, pid }: SandboxerRecord): void {
    const known = this.#of(id)
    if (taskAddress !== '' || pid > 0) known.started = { taskAddress, version, pid }
    // The daemon that told the peer to make it may have ended before the peer had.
    else known.mayAppearUntilMs = performance.now() + MAY_APPEAR_MS
  }

  async create(record: SandboxerRecord, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    const known = this.#of(record.id)
    const request = createRequest(record, spec, this.#deps.codec)
    // From here on it may be there, also when this fails.
    known.isPlanned = false
    try {
      await this.#deps.client.create(request, { timeoutMs: this.#options.runtimeMs, signal })
    } catch (error) {
      if (signal.aborted || errorCode(error) === 'DeadlineExceeded') {
        known.mayAppearUntilMs = performance.now() + MAY_APPEAR_MS
      }
      throw error
    }
  }

  async start({ id }: SandboxerRecord, signal: AbortSignal): Promise<null> {
    const call = { timeoutMs: this.#options.runtimeMs, signal }
    const { address: taskAddress, version, pid } = await this.#deps.client.start(id, call)
    this.#of(id).started = { taskAddress, version, pid }
    return null
  }

  startedRecord(record: SandboxerRecord): SandboxerRecord {
    return { ...record, ...this.#known.get(record.id)?.started }
  }

  /** Null while the sandbox has none, and for a sandboxer that offers none. */
  tasks(record: SandboxerRecord): (TaskEndpoint & { readonly announced: boolean }) | null {
    const { taskAddress: address, version } = this.startedRecord(record)
    return address === '' ? null : { address, version, announced: version < NEEDS_NO_ANNOUNCEMENT }
  }

  async announce(record: SandboxerRecord, tasks: readonly AnnouncedTask[], signal: AbortSignal): Promise<void> {
    const call = { timeoutMs: this.#options.runtimeMs, signal }
    await unless('Unimplemented', this.#deps.client.update(announcement(record, tasks), [TASKS_FIELD], call))
  }

  async metrics({ id }: SandboxerRecord, signal: AbortSignal): Promise<Any | null> {
    const wait = this.#known.get(id)?.wait
    if (wait?.stale) return null
    try {
      const { metrics } = await this.#deps.client.metrics(id, { timeoutMs: this.#readMs(), signal })
      return metrics?.data ?? null
    } catch (error) {
      if (errorCode(error) === 'Unimplemented') return null
      wait?.wake()
      throw error
    }
  }

  async stop({ id }: SandboxerRecord, _process: null | ProcessIdentity, graceMs: number, signal: AbortSignal) {
    const known = this.#known.get(id)
    if (known?.isPlanned) return
    const call = { timeoutMs: graceMs + this.#options.remoteMs, signal }
    try {
      await unless('NotFound', this.#deps.client.stop(id, graceMs, call))
    } finally {
      // It has ended now, or its sandboxer has a problem: either way what is known of it is old.
      known?.wait?.wake()
    }
  }

  async wait(
    { id }: SandboxerRecord,
    _process: ProcessIdentity | null,
    signal: AbortSignal,
    onReachable: OnReachable = () => undefined,
  ): Promise<ExitStatus> {
    const known = this.#of(id)
    const onStatus = ({ address, version, pid }: { address: string; version: number; pid: number }): void => {
      const { started } = known
      known.started = {
        // containerd has neither in a Status.
        ...(address === '' && started ? started : { taskAddress: address, version }),
        pid: pid || (started?.pid ?? 0),
      }
    }
    const { remoteMs: timeoutMs, unreachableGraceMs: graceMs, timing = WAIT_TIMING } = this.#options
    const onLost = (): void => this.#noteLost()
    const wait = new SandboxerWait(
      { id, timeoutMs, signal, onReachable, onStatus, onLost, graceMs, timing },
      this.#deps,
    )
    known.wait = wait
    this.#waits.add(wait)
    this.#probes ??= setInterval(() => this.#probe(), PROBE_MS).unref()
    try {
      return await wait.ended()
    } finally {
      if (known.wait === wait) known.wait = undefined
      this.#waits.delete(wait)
      if (this.#waits.size === 0) {
        clearInterval(this.#probes)
        this.#probes = undefined
      }
    }
  }

  /** Of the process that the peer has named, as its Task service shall see them: a pid of 0 is one that it fills in. */
  namespaces(record: SandboxerRecord): SandboxNamespaces {
    const path = (type: string): string => `/proc/${this.startedRecord(record).pid}/ns/${type}`
    return { ipc: path('ipc'), uts: path('uts'), pid: path('pid') }
  }

  async status({ id }: SandboxerRecord): Promise<ControllerStatus> {
    try {
      const { state, exited_at: at } = await this.#deps.client.status(id, false, this.#call(this.#options.remoteMs))
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
    const known = this.#known.get(id)
    if (!known?.isPlanned) {
      const call = { timeoutMs: this.#options.remoteMs, signal }
      const isGone = await unless('NotFound', this.#deps.client.shutdown(id, call))
      if (isGone && performance.now() < (known?.mayAppearUntilMs ?? 0)) {
        throw new CodedError(
          'Unavailable',
          `sandboxer ${this.name}: shut down sandbox ${id}: it may still be made there`,
        )
      }
    }
    this.#known.delete(id)
    known?.wait?.abandon()
  }

  /** From the record, and marked as stale, when the peer does not answer. */
  async info(record: SandboxerRecord): Promise<Readonly<Record<string, unknown>>> {
    const { address, taskAddress, version, pid, runtime } = this.startedRecord(record)
    const remote = { address, taskAddress, version, pid, runtime: runtime.name }
    const sinceMs = performance.now()
    const wait = this.#known.get(record.id)?.wait
    let stale = wait?.stale
    try {
      if (!stale) {
        const { state, info } = await this.#deps.client.status(record.id, true, this.#call(this.#readMs()))
        return { runtimeSpec: null, stale: false, pid, remote: { ...remote, state, info } }
      }
    } catch (error) {
      if (errorCode(error) === 'NotFound') throw error
      stale = { sinceMs, problem: errorMessage(error) }
      // Whoever watches it need not wait to find that out.
      wait?.wake()
    }
    const staleSince = new Date(performance.timeOrigin + stale.sinceMs).toISOString()
    return { runtimeSpec: null, stale: true, staleSince, lastError: stale.problem, pid, remote }
  }

  async listOwned(): Promise<readonly { readonly ownerId: string; readonly subject: string }[]> {
    // The API has no list: a peer tells only of sandboxes that one knows of.
    return []
  }

  #probe(): void {
    const [next] = this.#waits
    if (!next) return
    this.#waits.delete(next)
    this.#waits.add(next)
    next.wake()
  }

  /** Who has lost sight of one sandbox looks at the others: not more often than they are probed, since it may be only that one. */
  #noteLost(): void {
    if (performance.now() - this.#lostAtMs < PROBE_MS) return
    this.#lostAtMs = performance.now()
    for (const wait of this.#waits) wait.wake()
  }

  #of(id: string): Known {
    const known = this.#known.get(id) ?? {
      started: undefined,
      wait: undefined,
      isPlanned: false,
      mayAppearUntilMs: 0,
    }
    this.#known.set(id, known)
    return known
  }

  #readMs(): number {
    return Math.min(this.#options.remoteMs, READ_MS)
  }

  #call(timeoutMs: number): RemoteCall {
    return { timeoutMs, signal: new AbortController().signal }
  }
}

/** Takes a failure with this code for success: what is to be removed is not there, say. Returns whether that was so. */
async function unless(code: 'NotFound' | 'Unimplemented', call: Promise<void>): Promise<boolean> {
  try {
    await call
    return false
  } catch (error) {
    if (errorCode(error) !== code) throw error
    return true
  }
}
