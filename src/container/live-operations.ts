import { join } from 'node:path'
import { type Deadline, deadline } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { nowNs } from '../core/now.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { ContainerRecord } from '../executor/types.ts'
import type { RunProgram } from '../host/outcome.ts'
import type { Bundles } from './bundle.ts'
import { writeCheckpointArchive } from './checkpoint-archive.ts'
import type { Container } from './container.ts'
import type { ExecutedContainers } from './kinds/executed.ts'
import { type ContainerRoots, containerPaths } from './paths.ts'
import { notBefore } from './status.ts'
import type { ContainerResources, ExecResult } from './types.ts'

export interface LiveOptions {
  readonly roots: ContainerRoots
  /** One operation of the runtime with all that belongs to it. */
  readonly timeoutMs: number
}

export interface LiveDeps {
  readonly executor: ConmonExecutor
  readonly executed: ExecutedContainers
  readonly bundles: Bundles
  readonly run: RunProgram
  readonly failpoints: Failpoints
}

/** What the CRI says of ExecSync: more of a stream is cut off. */
const MAX_EXEC_OUTPUT_BYTES = 16 * 1024 * 1024

/** What is done with a container that has a process. Each throws `FailedPrecondition` when the container is not so far. */
export class LiveOperations {
  readonly #options: LiveOptions
  readonly #deps: LiveDeps
  readonly #underWay = new Map<string, Set<AbortController>>()

  constructor(options: LiveOptions, deps: LiveDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** Lets a created container run. Returns when that was, in nanoseconds since the epoch. */
  async start(container: Container): Promise<bigint> {
    const record = this.#record(container, ['CREATED'], 'start')
    const { executor, failpoints } = this.#deps
    using limit = this.#limit(container, 'start', this.#options.timeoutMs)
    await failpoints.hit('container-start.start.before', limit.signal)
    const startedAtNs = nowNs()
    try {
      await executor.start(record, limit.signal)
    } catch (error) {
      await container.note({ status: (current) => ({ ...current, message: errorMessage(error) }) })
      throw error
    }
    await failpoints.hit('container-start.start.after', limit.signal)
    await container.note({
      // It may have ended by now.
      status: (current) => ({
        ...current,
        startedAtNs,
        state: current.exit ? 'EXITED' : 'RUNNING',
        exit: notBefore(current.exit, startedAtNs),
      }),
    })
    return startedAtNs
  }

  async update(container: Container, resources: ContainerResources): Promise<void> {
    const record = this.#record(container, ['CREATED', 'RUNNING'], 'update')
    const { merged, oci } = this.#deps.bundles.update(container.status.resources, resources)
    using limit = this.#limit(container, 'update', this.#options.timeoutMs)
    await this.#deps.executor.update(record, oci, limit.signal)
    await container.note({ status: (current) => ({ ...current, resources: merged }) })
  }

  async execSync(
    container: Container,
    request: { readonly command: readonly string[]; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<ExecResult> {
    const record = this.#record(container, ['RUNNING'], 'run a command in')
    return this.#deps.executor.execSync(record, { ...request, maxOutputBytes: MAX_EXEC_OUTPUT_BYTES }, signal)
  }

  async reopenLog(container: Container, signal: AbortSignal): Promise<void> {
    const record = this.#record(container, ['RUNNING'], 'reopen the log of')
    const { logPath } = container.metadata
    if (logPath !== '') await this.#deps.executor.reopenLog(record, logPath, signal)
  }

  async checkpoint(container: Container, location: string, timeoutMs: number): Promise<void> {
    const record = this.#record(container, ['RUNNING'], 'checkpoint')
    const budgetMs = timeoutMs || this.#options.timeoutMs
    const directory = join(containerPaths(this.#options.roots, container.id).rootDir, 'dump')
    using limit = this.#limit(container, 'checkpoint', budgetMs)
    await writeCheckpointArchive(record, { location, directory, timeoutMs: budgetMs }, this.#deps, limit.signal)
  }

  /** Gives up what is under way with a container that is to end: nobody waits for it before that. */
  interrupt(container: Container): void {
    const reason = new CodedError('Aborted', `container ${container.id} is being stopped`)
    for (const controller of this.#underWay.get(container.id) ?? []) controller.abort(reason)
  }

  #limit(container: Container, what: string, timeoutMs: number): Deadline {
    const { id } = container
    const controller = new AbortController()
    const others = this.#underWay.get(id) ?? new Set()
    this.#underWay.set(id, others.add(controller))
    const limit = deadline(`${what} container ${id}`, timeoutMs, controller.signal)
    return {
      signal: limit.signal,
      [Symbol.dispose]: () => {
        limit[Symbol.dispose]()
        others.delete(controller)
        if (others.size === 0) this.#underWay.delete(id)
      },
    }
  }

  #record(container: Container, states: readonly string[], what: string): ContainerRecord {
    const { state } = container.status
    if (!states.includes(state)) {
      const why = `it is ${state}, not ${states.join(' or ')}`
      throw new CodedError('FailedPrecondition', `${what} container ${container.id}: ${why}`)
    }
    const record = this.#deps.executed.of(container)
    if (record) return record
    throw new CodedError('FailedPrecondition', `${what} container ${container.id}: nothing of it is left to work with`)
  }
}
