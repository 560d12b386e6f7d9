import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { canonicalJson } from '../core/canonical-json.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import { newId } from '../core/ids.ts'
import { UNOBSERVED } from '../core/observer.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import type { ProcessIdentity } from '../host/process.ts'
import { Steps } from '../lifecycle/steps.ts'
import { Connections } from './connections.ts'
import { type LifeDeps, type LifeOptions, podEvent, SandboxLife } from './life.ts'
import type { LoadedSandbox } from './load.ts'
import { type RunDeps, type RunPlan, RunSequence } from './run.ts'
import type { Sandbox } from './sandbox.ts'
import { isListed, isReady, matches } from './sandbox-index.ts'
import { sandboxInfo } from './sandbox-info.ts'
import { ServedManager, type ServedManagerDeps, type ServedOptions } from './served-manager.ts'
import type { PodResources, PodSandboxConfig, SandboxFilter, SandboxInfo, Sandboxes, SandboxView } from './types.ts'

export interface ManagerOptions extends LifeOptions {
  readonly defaultRuntimeHandler: string
  /** The sandboxer behind each runtime handler. */
  readonly sandboxers: Pick<ReadonlyMap<string, string>, 'get' | 'keys'>
  readonly runTimeoutMs: number
  readonly served: ServedOptions
}

export interface ManagerDeps extends Omit<LifeDeps, 'durable' | 'sealer' | 'failpoints' | 'onEnd'> {
  readonly run: RunDeps
  readonly kernel: Pick<Kernel, 'tcpSocket'>
  readonly isNamespace: ServedManagerDeps['isNamespace']
}

/** From the first SYN to a port of a pod. */
const CONNECT_MS = 10_000

interface RunUnderWay {
  readonly fingerprint: string
  readonly promise: Promise<string>
}

/** The sandboxes of the node and everything that is done with them. Reads come from memory and wait for nothing. */
export class SandboxManager implements Sandboxes, AsyncDisposable {
  /** Those of other front ends. Nothing else in here knows of them, but for their recovery and counts. */
  readonly served: ServedManager
  readonly #options: ManagerOptions
  readonly #deps: ManagerDeps
  readonly #life: SandboxLife
  readonly #connections: Connections
  readonly #runs = new Map<string, RunUnderWay>()

  constructor(options: ManagerOptions, deps: ManagerDeps) {
    this.#options = options
    this.#deps = deps
    const { sandboxDeps: durable, sealer, failpoints, observer } = deps.run
    const connections = new Connections({ timeoutMs: CONNECT_MS }, deps)
    this.#connections = connections
    const onEnd = (id: string): void => connections.end(id)
    this.#life = new SandboxLife(options, { ...deps, durable, sealer, failpoints, observer, onEnd })
    this.served = new ServedManager(options, { ...deps, life: this.#life })
  }

  /**
   * Takes up the sandboxes that are on record. They can be read when this returns; what became of them is found out
   * by {@link recover}.
   */
  async restore(loaded: readonly LoadedSandbox[]): Promise<void> {
    await this.#life.restore(loaded)
    this.served.restored()
  }

  /** Finds out how the restored sandboxes are, several at a time. One that cannot be found out about delays no other. */
  async recover(): Promise<void> {
    await this.#life.recover()
  }

  async run(
    request: { readonly config: PodSandboxConfig; readonly runtimeHandler: string },
    signal: AbortSignal,
  ): Promise<string> {
    signal.throwIfAborted()
    const { failpoints, observer } = this.#deps.run
    const steps = new Steps('run', failpoints, observer)
    const plan = steps.plan('prepareSandboxData', () => this.#plan(request))
    const { name } = plan.metadata
    const fingerprint = fingerprintOf(request)
    const underWay = this.#runs.get(name)
    if (underWay) {
      if (underWay.fingerprint !== fingerprint) throw nameTaken(name, 'with another configuration')
      return waitFor(underWay.promise, signal)
    }
    const existing = this.#life.index.byName(name)
    if (existing) {
      const id = await waitFor(this.#reuse(existing, fingerprint), signal)
      if (id !== undefined) return id
      // Several callers may have waited for the one before to go: only the first begins anew.
      return this.run(request, signal)
    }
    const operation = { kind: 'operation', name: 'run', id: plan.metadata.id } as const
    const promise = (observer ?? UNOBSERVED)
      .run(operation, () => this.#runToItsEnd(plan, steps))
      .finally(() => this.#runs.delete(name))
    // It goes on, and may fail, also when nobody waits for it any more.
    promise.catch(() => undefined)
    this.#runs.set(name, { fingerprint, promise })
    return waitFor(promise, signal)
  }

  async stop(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = this.#visible(id)
    if (!sandbox) return
    await waitFor(
      this.#life.operations.run(sandbox.id, 'stop', () => this.#life.stop(sandbox)),
      signal,
    )
  }

  async remove(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = this.#visible(id)
    if (!sandbox) return
    await waitFor(
      this.#life.operations.run(sandbox.id, 'remove', () => this.#life.remove(sandbox)),
      signal,
    )
  }

  async updateResources(id: string, resources: PodResources, signal: AbortSignal): Promise<void> {
    const sandbox = this.find(id)
    if (!isReady(sandbox)) {
      throw new CodedError('FailedPrecondition', `update the resources of pod sandbox ${sandbox.id}: it is not ready`)
    }
    await waitFor(sandbox.save({ status: (current) => ({ ...current, resources }) }), signal)
  }

  async connect(id: string, port: number, signal: AbortSignal): Promise<Socket> {
    return this.#connections.connect(this.find(id), port, signal)
  }

  get(id: string): SandboxView {
    return this.find(id).view
  }

  async info(id: string, signal: AbortSignal): Promise<SandboxInfo> {
    const { registry, controlled, run } = this.#deps
    return sandboxInfo(this.find(id), { roots: this.#options.roots, sealer: run.sealer, registry, controlled }, signal)
  }

  list(filter: SandboxFilter): SandboxView[] {
    return this.#life.index
      .all()
      .filter((sandbox) => isListed(sandbox) && matches(sandbox, filter))
      .map(({ view }) => view)
      .sort((a, b) => (a.metadata.createdAtNs < b.metadata.createdAtNs ? 1 : -1))
  }

  /** How many sandboxes there are in each state, how many are being made, and how many owe a release. */
  counts(): Readonly<Record<string, unknown>> {
    const states: Record<string, number> = {}
    for (const { status } of this.#life.all()) states[status.state] = (states[status.state] ?? 0) + 1
    return { sandboxes: states, running: this.#runs.size, owed: this.#life.owed }
  }

  /** How far {@link recover} is. */
  get recovery(): { readonly total: number; readonly done: number } {
    return this.#life.recovery
  }

  /** How many owe the release of something. */
  get owed(): number {
    return this.#life.owed
  }

  /** Goes on now with what a sandbox owes, instead of at its next turn. Outside of operations; throws nothing. */
  async retryOwed(id: string): Promise<void> {
    await this.#life.retryOwed(id)
  }

  /** All sandboxes, also those that the CRI does not show. */
  all(): readonly Sandbox[] {
    return this.#life.all()
  }

  /** Runs work on an id, whether or not there is such a sandbox, when no operation on it is under way. */
  async alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#life.operations.run(id, `examine ${randomBytes(8).toString('hex')}`, work)
  }

  /** See {@link SandboxLife.examine}. @returns why it is not to be trusted, or `''`. */
  async examine(sandbox: Sandbox): Promise<string> {
    await this.#life.examine(sandbox)
    return sandbox.quarantined
  }

  /** Waits for what is under way, then stops watching. Touches no sandbox. */
  async drain(signal: AbortSignal): Promise<void> {
    const runs = [...this.#runs.values()].map(({ promise }) => promise.catch(() => undefined))
    await waitFor(Promise.all([...runs, this.#life.operations.idle()]), signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.served[Symbol.dispose]()
    await this.#life[Symbol.asyncDispose]()
  }

  /** A sandbox that is being made, or taken back, belongs to its run: nobody else has been told of it. */
  #visible(id: string): Sandbox | undefined {
    const sandbox = this.#life.index.find(id)
    return sandbox?.status.visible ? sandbox : undefined
  }

  /** A sandbox that the CRI shows. @throws CodedError as {@link get}. */
  find(id: string): Sandbox {
    const sandbox = this.#life.index.find(id)
    if (sandbox && isListed(sandbox)) return sandbox
    throw new CodedError('NotFound', `pod sandbox ${id}: there is none`)
  }

  /** Everything that can be refused is refused here, before anything is reserved or made. */
  #plan({ config, runtimeHandler }: { config: PodSandboxConfig; runtimeHandler: string }): RunPlan {
    if (!config.metadata) throw invalidField('config.metadata', 'must be given')
    const handler = runtimeHandler || this.#options.defaultRuntimeHandler
    const sandboxer = this.#options.sandboxers.get(handler)
    if (sandboxer === undefined) {
      const known = [...this.#options.sandboxers.keys()].join(', ')
      throw new CodedError('NotFound', `runtime_handler: ${handler} is not one of ${known}`)
    }
    const { name, namespace, uid, attempt } = config.metadata
    const netMode = config.linux?.security_context?.namespace_options?.network === 'NODE' ? 'host' : 'cni'
    const id = newId(this.#deps.run.sealer)
    return {
      controller: this.#deps.registry.get(sandboxer),
      runtimeHandler: handler,
      metadata: {
        id,
        name: `k8s_POD_${name}_${namespace}_${uid}_${attempt}`,
        config,
        runtimeHandler,
        sandboxer,
        netMode,
        netnsPath: netMode === 'cni' ? this.#deps.run.netns.plan(id).path : '',
        createdAtNs: this.#life.nextCreatedAtNs(),
      },
    }
  }

  /** The id of a sandbox that has the name already and is what was asked for; undefined once the name is free. */
  async #reuse(existing: Sandbox, fingerprint: string): Promise<string | undefined> {
    const { name, config, runtimeHandler } = existing.metadata
    if (isListed(existing) && isReady(existing)) {
      if (fingerprintOf({ config, runtimeHandler }) === fingerprint) return existing.id
      throw nameTaken(name, 'with another configuration')
    }
    if (isListed(existing) && existing.status.failure === '') throw nameTaken(name, 'and is stopped: remove it first')
    // A failed creation, or a removal, that could not be finished: nobody waits for it but us.
    await this.#life.operations.run(existing.id, 'remove', () => this.#life.remove(existing))
    if (this.#life.index.byName(name) === existing) {
      throw new CodedError('Unavailable', `pod sandbox ${name}: what an earlier attempt left cannot be released yet`)
    }
    return undefined
  }

  async #runToItsEnd(plan: RunPlan, steps: Steps): Promise<string> {
    const { id, name } = plan.metadata
    const log = this.#deps.logger.child({ sandboxId: id })
    const observer = {
      recorded: (sandbox: Sandbox) => this.#life.add(sandbox),
      started: (sandbox: Sandbox, process: ProcessIdentity | null) => this.#life.watch(sandbox, process),
    }
    const sequence = new RunSequence(plan, steps, observer, this.#options, this.#deps.run)
    using limit = deadline(`run pod sandbox ${name}`, this.#options.runTimeoutMs)
    try {
      await sequence.run(limit.signal)
    } catch (error) {
      log.error({ name, error: errorMessage(error), steps: steps.timings }, 'pod sandbox failed')
      if (sequence.sandbox) await this.#life.rollback(sequence.sandbox, errorMessage(error))
      else await sequence.forget()
      throw error
    }
    this.#deps.onEvent(podEvent('CREATED', id))
    this.#deps.onEvent(podEvent('STARTED', id))
    return id
  }
}

function fingerprintOf(request: { config: PodSandboxConfig; runtimeHandler: string }): string {
  return canonicalJson([request.config, request.runtimeHandler])
}

function nameTaken(name: string, why: string): CodedError {
  return new CodedError('AlreadyExists', `pod sandbox ${name}: there is one of that name ${why}`)
}
