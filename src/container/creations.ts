import { join, normalize } from 'node:path'
import type { Logger } from 'pino'
import { canonicalJson } from '../core/canonical-json.ts'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import { newId } from '../core/ids.ts'
import { nowNs } from '../core/now.ts'
import { UNOBSERVED } from '../core/observer.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { ImageRootfs, ImageView } from '../image/types.ts'
import { Steps } from '../lifecycle/steps.ts'
import { stopSignalOf } from '../oci/stop-signal.ts'
import type { Container } from './container.ts'
import { type ContainerIndex, isListed } from './container-index.ts'
import {
  type CheckpointedState,
  type CreateDeps,
  type CreateOptions,
  type CreatePlan,
  CreateSequence,
} from './create.ts'
import type { Pod } from './pods.ts'
import { imagesToMount } from './resources.ts'
import { hasFailed } from './status.ts'
import type { ContainerConfig } from './types.ts'

export interface CreationsOptions extends CreateOptions {
  readonly lastCreatedAtNs: bigint
}

export interface CreationsDeps extends CreateDeps {
  readonly index: ContainerIndex
  readonly logger: Logger
  /** Its process exists. */
  readonly onProcess: (container: Container, process: ProcessIdentity) => void
  /** It is CREATED. */
  readonly onCreated: (container: Container) => void
  /** Takes back what a failed creation has left. Throws nothing. */
  readonly rollback: (container: Container, why: string) => Promise<unknown>
  readonly remove: (container: Container) => Promise<unknown>
}

interface Creation {
  readonly sandboxId: string
  readonly fingerprint: string
  readonly controller: AbortController
  readonly promise: Promise<string>
}

interface Wanted {
  readonly config: ContainerConfig
  readonly checkpointed: CheckpointedState | null
}

/** The creations of containers that are under way, by the names that the containers will have. */
export class Creations {
  readonly #options: CreationsOptions
  readonly #deps: CreationsDeps
  readonly #underWay = new Map<string, Creation>()
  #lastCreatedAtNs: bigint

  constructor(options: CreationsOptions, deps: CreationsDeps) {
    this.#options = options
    this.#deps = deps
    this.#lastCreatedAtNs = options.lastCreatedAtNs
  }

  get size(): number {
    return this.#underWay.size
  }

  /** Notes when a container was created that is there already. */
  noteCreatedAt(createdAtNs: bigint): void {
    if (createdAtNs > this.#lastCreatedAtNs) this.#lastCreatedAtNs = createdAtNs
  }

  /**
   * See `Containers.create`.
   * @param openPod returns the sandbox, or throws when no container may come to it (any more).
   */
  async create(
    openPod: () => Pod,
    config: ContainerConfig,
    signal: AbortSignal,
    checkpointed: CheckpointedState | null = null,
  ): Promise<string> {
    const pod = openPod()
    const name = containerName(config, pod)
    const fingerprint = canonicalJson([pod.id, config])
    const underWay = this.#underWay.get(name)
    if (underWay) {
      if (underWay.fingerprint !== fingerprint) throw nameTaken(name, 'with another configuration')
      return waitFor(underWay.promise, signal)
    }
    const existing = this.#deps.index.byName(name)
    if (existing) {
      const id = await waitFor(this.#reuse(existing, fingerprint), signal)
      // Several callers may have waited for the one before to go: only the first begins anew.
      return id ?? this.create(openPod, config, signal, checkpointed)
    }
    const controller = new AbortController()
    const promise = this.#run(name, pod, { config, checkpointed }, controller.signal).finally(() =>
      this.#underWay.delete(name),
    )
    // It goes on, and may fail, also when nobody waits for it any more.
    promise.catch(() => undefined)
    this.#underWay.set(name, { sandboxId: pod.id, fingerprint, controller, promise })
    return waitFor(promise, signal)
  }

  /** Gives up those that are under way in a sandbox: they fail, and are taken back. */
  abort(sandboxId: string, reason: CodedError): void {
    for (const creation of this.#underWay.values()) {
      if (creation.sandboxId === sandboxId) creation.controller.abort(reason)
    }
  }

  /** Resolves when those that are under way have ended, however: all, or those of one sandbox. */
  async settled(sandboxId?: string): Promise<void> {
    const all = [...this.#underWay.values()]
    const waited = sandboxId === undefined ? all : all.filter((creation) => creation.sandboxId === sandboxId)
    await Promise.allSettled(waited.map(({ promise }) => promise))
  }

  async #run(name: string, pod: Pod, wanted: Wanted, signal: AbortSignal): Promise<string> {
    const { images, failpoints, observer = UNOBSERVED } = this.#deps
    const steps = new Steps('container-create', failpoints, observer)
    using held = new HeldImages(images)
    const plan = steps.plan('prepareContainerData', () => this.#plan(name, pod, wanted, held))
    const operation = { kind: 'operation', name: 'container-create', id: plan.metadata.id } as const
    return await observer.run(operation, () => this.#runToItsEnd(plan, steps, signal))
  }

  async #runToItsEnd(plan: CreatePlan, steps: Steps, signal: AbortSignal): Promise<string> {
    const { logger, index, onProcess, onCreated } = this.#deps
    const { id, name } = plan.metadata
    const observer = { recorded: (container: Container) => index.add(container), created: onProcess }
    const sequence = new CreateSequence(plan, steps, observer, this.#options, this.#deps)
    using limit = deadline(`create container ${name}`, this.#options.createTimeoutMs, signal)
    try {
      const container = await sequence.run(limit.signal)
      onCreated(container)
      return id
    } catch (error) {
      logger.error({ containerId: id, name, error: errorMessage(error), steps: steps.timings }, 'container failed')
      if (sequence.container) await this.#deps.rollback(sequence.container, errorMessage(error))
      throw error
    }
  }

  /** Everything that can be refused is refused here, before anything is made. */
  #plan(name: string, pod: Pod, { config, checkpointed }: Wanted, held: HeldImages): CreatePlan {
    if (checkpointed && pod.tasks) {
      const why = 'its containers are run by a Task service, which does not restore any'
      throw new CodedError('FailedPrecondition', `restore a container in pod sandbox ${pod.id}: ${why}`)
    }
    const image = held.hold(config.image?.image ?? '')
    const mountedImages = new Map(imagesToMount(config).map((reference) => [reference, held.hold(reference).id]))
    if (pod.tasks?.announced) checkLayers(this.#deps.images, [image.id, ...mountedImages.values()])
    const metadata = {
      id: newId(this.#deps.durable.sealer),
      name,
      sandboxId: pod.id,
      config,
      imageId: image.id,
      imageRef: image.repoDigests[0] ?? image.id,
      mountedImageIds: [...mountedImages.values()],
      logPath: logPath(pod, config),
      stopSignal: stopSignalOf(config, image.config.stopSignal),
      createdAtNs: this.#nextCreatedAt(),
      ...(checkpointed ? { restored: true as const } : {}),
    }
    return { metadata, pod, image, mountedImages, checkpointed }
  }

  /** Later than any before, also when the clock was set back: callers take the youngest for the current one. */
  #nextCreatedAt(): bigint {
    const now = nowNs()
    this.#lastCreatedAtNs = now > this.#lastCreatedAtNs ? now : this.#lastCreatedAtNs + 1n
    return this.#lastCreatedAtNs
  }

  /** The id of a container that has the name already and is what was asked for; undefined once the name is free. */
  async #reuse(existing: Container, fingerprint: string): Promise<string | undefined> {
    const { name, sandboxId, config } = existing.metadata
    const { state } = existing.status
    if (isListed(existing) && !hasFailed(existing.status)) {
      if (canonicalJson([sandboxId, config]) !== fingerprint) throw nameTaken(name, 'with another configuration')
      if (state === 'CREATED') return existing.id
      throw nameTaken(name, `and is ${state}`)
    }
    // A failed creation, or a removal, that could not be finished: nobody waits for it but us.
    await this.#deps.remove(existing)
    if (this.#deps.index.byName(name) === existing) {
      throw new CodedError('Unavailable', `container ${name}: what an earlier attempt left cannot be released yet`)
    }
    return undefined
  }
}

/** Images that cannot be removed before this is disposed. */
class HeldImages implements Disposable {
  readonly #images: ImageRootfs
  readonly #held: Disposable[] = []

  constructor(images: ImageRootfs) {
    this.#images = images
  }

  hold(reference: string): ImageView {
    const image = this.#images.hold(reference)
    this.#held.push(image)
    return image
  }

  [Symbol.dispose](): void {
    for (const image of this.#held) image[Symbol.dispose]()
  }
}

function containerName(config: ContainerConfig, pod: Pod): string {
  if (!config.metadata) throw invalidField('config.metadata', 'must be given')
  const { name = '', namespace = '', uid = '' } = pod.config.metadata ?? {}
  return `k8s_${config.metadata.name}_${name}_${namespace}_${uid}_${config.metadata.attempt}`
}

/** @throws CodedError `InvalidArgument` for a path that leads out of the pod's log directory. */
function logPath({ config }: Pod, { log_path: path }: ContainerConfig): string {
  const directory = config.log_directory
  if (directory === '' || path === '') return ''
  const joined = normalize(join(directory, path))
  if (!path.startsWith('/') && joined.startsWith(`${normalize(directory).replace(/\/$/, '')}/`)) return joined
  throw invalidField('config.log_path', `leads out of the log directory of the pod: ${JSON.stringify(path)}`)
}

/**
 * Who runs containers elsewhere is given directories of ours, which must be root file systems: a directory without layers
 * was taken for a block device of the node before (CVE-2026-24054).
 */
function checkLayers(images: ImageRootfs, ids: readonly string[]): void {
  const empty = ids.find((id) => images.lowerDirs(id).length === 0)
  if (empty === undefined) return
  throw new CodedError(
    'FailedPrecondition',
    `config.image: image ${empty} has no layers, which this sandboxer cannot run`,
  )
}

function nameTaken(name: string, why: string): CodedError {
  return new CodedError('AlreadyExists', `container ${name}: there is one of that name ${why}`)
}
