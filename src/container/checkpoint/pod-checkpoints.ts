import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { canonicalJson } from '../../core/canonical-json.ts'
import { deadline } from '../../core/deadline.ts'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { Sealer } from '../../core/seal.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import { removeFile } from '../../host/files.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import type { ImageRootfs } from '../../image/types.ts'
import { type ArchiveDeps, fetchArchive, hashFiles, unpackArchive } from './archive.ts'
import { matchContainers, type PodManifest, readManifest } from './manifest.ts'
import type { CheckpointStages } from './stages.ts'
import { MAX_MEMBERS } from './checkpoints.ts'
import type { ContainerManager } from '../container-manager.ts'
import type { CheckpointPod, PodCheckpoints, RestoredPod, RestorePod } from '../types.ts'

/** The sandboxes, as the restore of a pod uses them. */
export interface RestoredSandboxes {
  run(
    request: { readonly config: RestorePod['config']; readonly runtimeHandler: string },
    signal: AbortSignal,
  ): Promise<string>
  remove(id: string, signal: AbortSignal): Promise<void>
  ids(): readonly string[]
}

export interface PodCheckpointsOptions {
  readonly checkpointMs: number
  readonly maxBytes: number
  /** Taking back a pod. */
  readonly removeMs: number
}

export interface PodCheckpointsDeps {
  readonly containers: ContainerManager
  readonly sandboxes: RestoredSandboxes
  readonly images: ImageRootfs
  readonly processes: Pick<ProcessCheckpoints, 'check'>
  readonly stages: CheckpointStages
  readonly sealer: Sealer
  readonly run: RunProgram
  /** The OCI runtime of a handler. @throws CodedError `NotFound`, or `FailedPrecondition` for one without. */
  readonly runtimePath: (runtimeHandler: string) => string
  readonly logger: Logger
}

/** Checkpoints pods, and makes pods of checkpoints (KEP-5823). */
export class CheckpointedPods implements PodCheckpoints {
  readonly #options: PodCheckpointsOptions
  readonly #deps: PodCheckpointsDeps
  /** The pods that are being made, by their identities. */
  readonly #underWay = new Set<string>()

  constructor(options: PodCheckpointsOptions, deps: PodCheckpointsDeps) {
    this.#options = options
    this.#deps = deps
  }

  async checkpoint(request: CheckpointPod, signal: AbortSignal): Promise<void> {
    await this.#deps.containers.checkpointPod(request, signal)
  }

  async restore(request: RestorePod, signal: AbortSignal): Promise<RestoredPod> {
    const identity = canonicalJson(request.config.metadata)
    // The second would take what the first has made for its own.
    if (this.#underWay.has(identity))
      throw new CodedError('AlreadyExists', `restore pod sandbox ${identity}: is under way`)
    this.#underWay.add(identity)
    try {
      return await this.#restore(request, signal)
    } finally {
      this.#underWay.delete(identity)
    }
  }

  async #restore(request: RestorePod, signal: AbortSignal): Promise<RestoredPod> {
    const { processes, stages, runtimePath } = this.#deps
    using limit = deadline('restore pod sandbox', this.#options.checkpointMs, signal)
    const runtime = runtimePath(request.runtimeHandler)
    await processes.check(runtime, 'restore pod sandbox', limit.signal)
    await using stage = await stages.open()
    const { manifest, files } = await this.#unpack(request.checkpointPath, stage.path, limit.signal)
    const places = this.#match(manifest, request, runtime)
    // Awaited here: the stage goes with this scope.
    return await this.#make(
      request,
      places.map((place) => join(files, 'containers', String(place))),
      limit.signal,
    )
  }

  /** A copy of the checkpoint in files of ours, each as the manifest says. */
  async #unpack(
    checkpointPath: string,
    stage: string,
    signal: AbortSignal,
  ): Promise<{ manifest: PodManifest; files: string }> {
    const deps: ArchiveDeps = {
      run: this.#deps.run,
      timeoutMs: this.#options.checkpointMs,
      maxBytes: this.#options.maxBytes,
    }
    const archive = join(stage, 'archive.tar')
    const files = join(stage, 'files')
    await fetchArchive({ directory: checkpointPath, copy: archive }, deps, signal)
    const manifest = await readManifest(archive, this.#deps.sealer, this.#limits)
    await mkdir(files, { mode: 0o700 })
    await unpackArchive({ archive, directory: files }, deps, signal)
    await removeFile(archive)
    const hashes = await hashFiles(
      files,
      manifest.files.map(({ path }) => path),
      deps,
      signal,
    )
    const changed = manifest.files.find(({ path, sha256 }) => hashes.get(path) !== sha256)
    if (changed) throw new CodedError('DataLoss', `checkpoint_path: the hash of ${changed.path} does not match`)
    return { manifest, files }
  }

  #match(manifest: PodManifest, { config, containers }: RestorePod, runtimePath: string): number[] {
    const live = containers.map((container) => {
      using image = this.#deps.images.hold(container.image?.image ?? '')
      return { config: container, imageId: image.id }
    })
    return matchContainers(manifest, { config, runtimePath }, live)
  }

  /** The pod, and its containers from these directories. On failure they are taken back. */
  async #make(request: RestorePod, directories: readonly string[], signal: AbortSignal): Promise<RestoredPod> {
    const { sandboxes, containers, logger } = this.#deps
    const before = new Set(sandboxes.ids())
    signal.throwIfAborted()
    // It has limits of its own, and would go on without us.
    const sandboxId = await sandboxes.run(request, new AbortController().signal)
    if (before.has(sandboxId)) {
      throw new CodedError(
        'AlreadyExists',
        `restore pod sandbox: there is one already of that configuration: ${sandboxId}`,
      )
    }
    try {
      const made: { name: string; id: string }[] = []
      for (const [at, config] of request.containers.entries()) {
        const directory = directories[at] ?? ''
        const images = join(directory, 'checkpoint')
        const state = { images, rootfsDiff: join(directory, 'rootfs-diff.tar'), limits: this.#limits }
        const id = await containers.createRestored({ sandboxId, config, state }, signal)
        made.push({ name: config.metadata?.name ?? '', id })
      }
      signal.throwIfAborted()
      logger.info({ sandboxId, containers: made }, 'pod sandbox restored')
      return { sandboxId, containers: made }
    } catch (error) {
      logger.error({ sandboxId, error: errorMessage(error) }, 'pod sandbox cannot be restored')
      using limit = deadline(`remove pod sandbox ${sandboxId}`, this.#options.removeMs)
      await sandboxes.remove(sandboxId, limit.signal)
      throw error
    }
  }

  get #limits(): { maxMembers: number; maxBytes: number } {
    return { maxMembers: MAX_MEMBERS, maxBytes: this.#options.maxBytes }
  }
}
