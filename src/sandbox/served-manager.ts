import type { Logger } from 'pino'
import type { Controller } from '../controller/controller.ts'
import type { ControllerRegistry } from '../controller/registry.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import type { ExitStatus, TaskEndpoint } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { Releaser } from '../lifecycle/release.ts'
import { Steps } from '../lifecycle/steps.ts'
import { Expiry } from './expiry.ts'
import type { ControlledSandboxes } from './kinds/controlled.ts'
import type { SandboxLife } from './life.ts'
import { isNameless } from './load.ts'
import type { SandboxRoots } from './paths.ts'
import { plannedResources, releaseChains } from './resources.ts'
import { restoreFrontEnd, type RunDeps, type RunPlan, RunSequence } from './run.ts'
import type { Sandbox } from './sandbox.ts'
import { isReady } from './sandbox-index.ts'
import { sandboxInfo } from './sandbox-info.ts'
import type { SandboxInfo, ServedRequest, ServedSandboxes, ServedView } from './types.ts'

export interface ServedOptions {
  /** The runtime handler of those for which no shim was asked for; it also says how a shim of its kind is run. */
  readonly runtimeHandler: string
  /** The controller that runs the shims that were asked for. */
  readonly shimSandboxer: string
  /** How long one that is not started, or that nobody asks for after its start, is kept. */
  readonly createdTtlMs: number
}

export interface ServedManagerOptions {
  readonly roots: SandboxRoots
  readonly bootId: string
  readonly sandboxers: Pick<ReadonlyMap<string, string>, 'get'>
  readonly runTimeoutMs: number
  readonly served: ServedOptions
}

export interface ServedManagerDeps {
  readonly life: SandboxLife
  readonly run: RunDeps
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly releaser: Releaser
  /** Whether there is a namespace at a path that a front end chose. */
  readonly isNamespace: (path: string) => Promise<boolean>
  readonly logger: Logger
}

/** {@link ServedSandboxes} on this node. Everything that changes one is an operation on it, in order. */
export class ServedManager implements ServedSandboxes, Disposable {
  readonly #options: ServedManagerOptions
  readonly #deps: ServedManagerDeps
  readonly #life: SandboxLife
  /** What is being created, and is not on record yet. */
  readonly #creating = new Set<string>()
  /** What this daemon has made, and nobody has started; with the times of its steps. */
  readonly #made = new Map<string, Steps>()
  readonly #expiry: Expiry

  constructor(options: ServedManagerOptions, deps: ServedManagerDeps) {
    this.#options = options
    this.#deps = deps
    this.#life = deps.life
    this.#expiry = new Expiry({ ttlMs: options.served.createdTtlMs }, { onOver: (id) => void this.#collect(id) })
  }

  /** To be called when the sandboxes of earlier daemons are known: the time of those that nobody has claimed begins. */
  restored(): void {
    for (const { id, status } of this.#life.served.values()) {
      if (status.phase === 'created' || status.phase === 'started') this.#expiry.set(id)
    }
  }

  async create(request: ServedRequest, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { id } = request
    if (this.#creating.has(id) || this.#life.has(id)) {
      throw new CodedError('AlreadyExists', `create sandbox ${id}: there is one of that id`)
    }
    const { failpoints, observer } = this.#deps.run
    const steps = new Steps('run', failpoints, observer)
    const plan = steps.plan('prepareSandboxData', () => this.#plan(request))
    this.#creating.add(id)
    const created = this.#life.operations
      .run(id, 'create', () => this.#create(plan, steps))
      .finally(() => this.#creating.delete(id))
    await waitFor(created, signal)
  }

  async start(id: string, signal: AbortSignal): Promise<ServedView> {
    const view = await waitFor(
      this.#life.operations.run(id, 'start', () => this.#start(id)),
      signal,
    )
    // It was told of it, and knows it from now on.
    this.#expiry.clear(id)
    return view
  }

  async status(id: string, signal: AbortSignal): Promise<ServedView> {
    const sandbox = this.claim(id)
    if (isReady(sandbox)) await waitFor(this.#restoreFiles(sandbox), signal)
    return this.#view(sandbox)
  }

  async info(id: string, signal: AbortSignal): Promise<SandboxInfo> {
    const { registry, controlled, run } = this.#deps
    return sandboxInfo(this.claim(id), { roots: this.#options.roots, sealer: run.sealer, registry, controlled }, signal)
  }

  async wait(id: string, signal: AbortSignal): Promise<ExitStatus> {
    return this.claim(id).ended(signal)
  }

  async stop(id: string, graceMs: number | null, signal: AbortSignal): Promise<void> {
    await this.#ending(id, 'stop', (sandbox) => this.#life.stop(sandbox, graceMs ?? undefined), signal)
  }

  async shutdown(id: string, signal: AbortSignal): Promise<void> {
    const remove = async (sandbox: Sandbox): Promise<boolean> => {
      const gone = await this.#life.remove(sandbox)
      this.#forget(id)
      return gone
    }
    await this.#ending(id, 'remove', remove, signal)
  }

  async update(id: string, resources: unknown, signal: AbortSignal): Promise<void> {
    const sandbox = this.claim(id)
    if (resources === undefined) return
    await waitFor(sandbox.save({ status: (current) => ({ ...current, told: resources }) }), signal)
  }

  /** One that its front end asks for. @throws CodedError `NotFound`. */
  claim(id: string): Sandbox {
    const sandbox = this.#find(id)
    if (sandbox.status.phase === 'started') {
      // It was told of its start.
      this.#expiry.clear(id)
      // Nobody waits for the disk: what is not written down is claimed again after a restart.
      void sandbox.note({
        status: (current) => (current.phase === 'started' ? { ...current, phase: 'claimed' } : current),
      })
    }
    return sandbox
  }

  #find(id: string): Sandbox {
    const sandbox = this.#onRecord(id)
    if (sandbox && sandbox.status.state !== 'REMOVING') return sandbox
    throw new CodedError('NotFound', `sandbox ${id}: there is none`)
  }

  /** One of which nothing but the id is known belongs to whoever names that whole. */
  #onRecord(id: string): Sandbox | undefined {
    const unknown = this.#life.index.byId(id)
    return this.#life.served.get(id) ?? (unknown && isNameless(unknown.metadata) ? unknown : undefined)
  }

  [Symbol.dispose](): void {
    this.#expiry[Symbol.dispose]()
  }

  /** Everything that can be refused without looking at the machine. */
  #plan({ id, config, netnsPath, ips, shim }: ServedRequest): RunPlan {
    const { runtimeHandler: handler, shimSandboxer } = this.#options.served
    const sandboxer = shim ? shimSandboxer : this.#options.sandboxers.get(handler)
    if (sandboxer === undefined) {
      throw invalidField(
        'sandbox.runtime.name',
        `must be given: this node has no runtime handler ${handler || 'for it'}`,
      )
    }
    const netMode = config.linux?.security_context?.namespace_options?.network === 'NODE' ? 'host' : 'cni'
    if (netMode === 'cni' && netnsPath === '')
      throw invalidField('netns_path', 'must be given: the pod has its own network')
    return {
      controller: this.#deps.registry.get(sandboxer),
      runtimeHandler: handler,
      metadata: {
        id,
        // No name of our own CRI begins like that.
        name: `sandboxer_${id}`,
        config,
        runtimeHandler: handler,
        sandboxer,
        netMode,
        netnsPath: netMode === 'cni' ? netnsPath : '',
        createdAtNs: this.#life.nextCreatedAtNs(),
        served: { ips, shim },
      },
    }
  }

  async #create(plan: RunPlan, steps: Steps): Promise<void> {
    const { id, netnsPath } = plan.metadata
    if (netnsPath !== '' && !(await this.#deps.isNamespace(netnsPath))) {
      throw new CodedError('FailedPrecondition', `netns_path: there is no network namespace at ${netnsPath}`)
    }
    const sequence = this.#sequence(plan, steps)
    using limit = deadline(`create sandbox ${id}`, this.#options.runTimeoutMs)
    try {
      await sequence.create(limit.signal)
    } catch (error) {
      await this.#fail(sequence, plan, steps, error)
    }
    this.#made.set(id, steps)
    this.#expiry.set(id)
  }

  async #start(id: string): Promise<ServedView> {
    const sandbox = this.#find(id)
    if (sandbox.quarantined !== '') {
      throw new CodedError('FailedPrecondition', `start sandbox ${id}: ${sandbox.quarantined}`)
    }
    // Not all that is older has been looked at when requests are served.
    if (sandbox.entries.some(({ bootId }) => bootId !== this.#options.bootId)) {
      throw new CodedError('FailedPrecondition', `start sandbox ${id}: it has ended with an earlier boot of the node`)
    }
    if (sandbox.status.phase !== 'created' || sandbox.status.state === 'STOPPED') {
      if (!sandbox.status.exit) return this.#view(sandbox)
      throw new CodedError('FailedPrecondition', `start sandbox ${id}: it has ended`)
    }
    const { metadata } = sandbox
    const { failpoints, observer } = this.#deps.run
    const steps = this.#made.get(id) ?? new Steps('run', failpoints, observer)
    const controller = this.#controllerOf(sandbox)
    const plan = { metadata, controller, runtimeHandler: metadata.runtimeHandler }
    const sequence = this.#sequence(plan, steps)
    using limit = deadline(`start sandbox ${id}`, this.#options.runTimeoutMs)
    try {
      sequence.resume(sandbox)
      if (!this.#made.delete(id)) await this.#makeAnew(sandbox, sequence, limit.signal)
      await sequence.start(limit.signal)
    } catch (error) {
      await this.#fail(sequence, plan, steps, error)
    }
    // Its caller may be gone: the time of one that nobody asks for ends, too.
    this.#expiry.set(id)
    return this.#view(sandbox)
  }

  #sequence(plan: RunPlan, steps: Steps): RunSequence {
    const observer = {
      recorded: (sandbox: Sandbox) => this.#life.add(sandbox),
      started: (sandbox: Sandbox, process: ProcessIdentity | null) => this.#life.watch(sandbox, process),
    }
    return new RunSequence(plan, steps, observer, this.#options, this.#deps.run)
  }

  /** Nothing is left of it: nobody asks again for one that they were told has failed. */
  async #fail(sequence: RunSequence, { metadata }: RunPlan, steps: Steps, error: unknown): Promise<never> {
    const log = { sandboxId: metadata.id, error: errorMessage(error), steps: steps.timings }
    this.#deps.logger.error(log, 'sandbox failed')
    this.#forget(metadata.id)
    const sandbox = sequence.sandbox ?? this.#life.served.get(metadata.id)
    if (sandbox) await this.#life.takeBack(sandbox, errorMessage(error))
    else await sequence.forget()
    throw error
  }

  /** What an earlier daemon has made may not be whole, and is not looked at: it is made again. */
  async #makeAnew(sandbox: Sandbox, sequence: RunSequence, signal: AbortSignal): Promise<void> {
    const chains = releaseChains({ keepNetnsForCni: false })
    const { owed } = await this.#deps.releaser.release(sandbox.entries, chains)
    const [first] = owed
    if (first) throw first.error
    await sequence.make(signal)
  }

  async #ending(
    id: string,
    kind: string,
    work: (sandbox: Sandbox) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    // Also one that is being created: it is waited for.
    if (!this.#creating.has(id) && !this.#onRecord(id)) return
    const ended = this.#life.operations.run(id, kind, async () => {
      const sandbox = this.#onRecord(id)
      return sandbox && work(sandbox)
    })
    await waitFor(ended, signal)
  }

  /** The time of a sandbox is over. */
  async #collect(id: string): Promise<void> {
    try {
      await this.#life.operations.run(id, 'collect', async () => {
        // It may have been started, or asked for, before it was this one's turn.
        if (!this.#expiry.isOver(id)) return
        this.#forget(id)
        const sandbox = this.#life.served.get(id)
        if (!sandbox || sandbox.status.phase === 'claimed' || sandbox.status.state === 'REMOVING') return
        this.#deps.logger.warn(
          { sandboxId: id, phase: sandbox.status.phase },
          'nobody has come for the sandbox: removed',
        )
        await this.#life.takeBack(sandbox, 'nobody has come for it')
      })
    } catch (error) {
      this.#deps.logger.error({ sandboxId: id, error: errorMessage(error) }, 'sandbox cannot be collected')
      this.#expiry.set(id)
    }
  }

  #forget(id: string): void {
    this.#made.delete(id)
    this.#expiry.clear(id)
  }

  /** Its front end may remove its places at any time, and expects to find them again. How it is does not hang on them. */
  async #restoreFiles(sandbox: Sandbox): Promise<void> {
    const { id, metadata, entries } = sandbox
    const { run, logger } = this.#deps
    try {
      const { frontEnd, shm } = plannedResources(entries)
      if (!frontEnd || (await run.frontEnd.isWhole(frontEnd, shm?.path ?? ''))) return
      await this.#life.operations.run(id, 'restore', async () => {
        if (!isReady(sandbox)) return
        await restoreFrontEnd(metadata, { frontEnd, shm }, run)
        logger.info({ sandboxId: id }, 'files of the sandbox were missing at its front end: made again')
      })
    } catch (error) {
      const log = { sandboxId: id, error: errorMessage(error) }
      logger.warn(log, 'files of the sandbox are missing at its front end, and cannot be made again')
    }
  }

  #controllerOf(sandbox: Sandbox): Controller {
    return this.#deps.registry.get(sandbox.metadata.sandboxer)
  }

  #view(sandbox: Sandbox): ServedView {
    const { metadata, status } = sandbox
    return {
      metadata,
      ready: isReady(sandbox),
      // That of one that has ended may be another's by now.
      pid: status.exit ? 0 : (status.process?.pid ?? 0),
      exit: status.exit,
      endpoint: status.phase === 'created' ? null : this.#endpoint(sandbox),
    }
  }

  /** Null also for one of which the record cannot be read: it is quarantined. */
  #endpoint(sandbox: Sandbox): TaskEndpoint | null {
    const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
    if (!entry) return null
    try {
      const { sandboxer, record } = this.#deps.controlled.parse(entry.record)
      return this.#deps.registry.get(sandboxer).tasks?.(record) ?? null
    } catch (error) {
      if (error instanceof CodedError) return null
      throw error
    }
  }
}
