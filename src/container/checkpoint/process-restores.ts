import type { Logger } from 'pino'
import { errorMessage } from '../../core/errors.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import type { ContainerRecord, ExecutedRecord, Executor } from '../../executor/types.ts'
import { removeTree } from '../../host/files.ts'
import { expectSuccess, type RunProgram } from '../../host/programs/outcome.ts'
import type { ProcessIdentity } from '../../host/process.ts'
import type { Container } from '../container.ts'
import { containerIo } from '../io.ts'
import { type ContainerRoots, containerPaths } from '../paths.ts'
import type { Pods } from '../pods.ts'

export interface RestoresOptions {
  readonly roots: ContainerRoots
  readonly logMaxBytes: number
  readonly checkpointMs: number
}

export interface RestoresDeps {
  readonly executor: Pick<Executor<ExecutedRecord>, 'prepareLog'>
  readonly processes: Pick<ProcessCheckpoints, 'check' | 'restore'>
  readonly pods: Pods
  readonly run: RunProgram
  readonly logger: Logger
}

const HOSTNAME_MS = 10_000

/** The start of containers whose processes were checkpointed. */
export class ProcessRestores {
  readonly #options: RestoresOptions
  readonly #deps: RestoresDeps

  constructor(options: RestoresOptions, deps: RestoresDeps) {
    this.#options = options
    this.#deps = deps
  }

  /**
   * Lets the processes go on where they were. Their images are used up.
   * @throws CodedError as `ProcessCheckpoints.restore`.
   */
  async restore({ metadata }: Container, record: ContainerRecord, signal: AbortSignal): Promise<ProcessIdentity> {
    const { executor, processes, pods, logger } = this.#deps
    const { roots, logMaxBytes, checkpointMs } = this.#options
    const { images } = containerPaths(roots, metadata.id)
    const pod = pods.get(metadata.sandboxId)
    const io = containerIo(metadata, pod, logMaxBytes)
    await processes.check(record.runtime.path, `restore container ${metadata.id}`, signal)
    await executor.prepareLog(io, signal)
    const process = await processes.restore(record, { imageDir: images, io, timeoutMs: checkpointMs }, signal)
    // Neither is worth ending it for.
    const [renamed, removed] = await Promise.allSettled([this.#nameHost(pod), removeTree(images)])
    for (const outcome of [renamed, removed]) {
      if (outcome.status === 'fulfilled') continue
      logger.warn({ containerId: metadata.id, error: errorMessage(outcome.reason) }, 'restored container is not tidy')
    }
    return process
  }

  /** criu gives the namespace that the pod shares the hostname of the checkpointed one. */
  async #nameHost({ id, hostname }: { readonly id: string; readonly hostname: string }): Promise<void> {
    const { uts } = this.#deps.pods.namespaces(id)
    if (uts === undefined) return
    const args = [`--uts=${uts}`, '/bin/hostname', '--', hostname]
    const result = await this.#deps.run('/usr/bin/nsenter', args, { timeoutMs: HOSTNAME_MS })
    expectSuccess('/usr/bin/nsenter', args, result)
  }
}
