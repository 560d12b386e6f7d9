import { randomBytes } from 'node:crypto'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalJson } from '../../core/canonical-json.ts'
import { CodedError } from '../../core/errors.ts'
import type { Failpoints } from '../../core/failpoints.ts'
import type { Sealer } from '../../core/seal.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import type { ContainerRecord } from '../../executor/types.ts'
import { listFiles, makeDirectory } from '../../host/files.ts'
import type { RunProgram } from '../../host/programs/outcome.ts'
import {
  hashFiles,
  checkLocation,
  checkOutputDirectory,
  POD_ARCHIVE,
  writeArchive,
  type ArchiveDeps,
} from './archive.ts'
import { dumpContainers } from './dump.ts'
import { describeContainer, encodeManifest, MANIFEST } from './manifest.ts'
import { type CheckpointStages, PARTIAL_SUFFIX, type Stage } from './stages.ts'
import type { Container } from '../container.ts'
import { type ContainerRoots, containerPaths } from '../paths.ts'
import type { Pod } from '../pods.ts'

/** So many files an archive may have: criu writes some ten and a few for each process. */
export const MAX_MEMBERS = 200_000

export interface CheckpointsOptions {
  readonly roots: ContainerRoots
  readonly maxBytes: number
}

export interface CheckpointsDeps {
  readonly processes: ProcessCheckpoints
  readonly run: RunProgram
  readonly stages: CheckpointStages
  readonly sealer: Sealer
  readonly failpoints: Failpoints
}

/** A running container with its record at the executor. */
export interface RunningContainer {
  readonly container: Container
  readonly record: ContainerRecord
}

/** Writes the state of running containers to files. They go on as they were, whatever comes of it. */
export class Checkpoints {
  readonly #options: CheckpointsOptions
  readonly #deps: CheckpointsDeps

  constructor(options: CheckpointsOptions, deps: CheckpointsDeps) {
    this.#options = options
    this.#deps = deps
  }

  /**
   * One container, to an archive as other runtimes write it: `checkpoint/`, `rootfs-diff.tar`, and what it was in
   * `spec.dump` and `config.dump`.
   * @throws CodedError `FailedPrecondition` when the runtime or the node cannot checkpoint it.
   */
  async ofContainer(
    { container, record }: RunningContainer,
    request: { readonly location: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { location, timeoutMs } = request
    const archive = this.#archive(timeoutMs)
    await this.#check(container, record, signal)
    await checkLocation(location, archive, signal)
    const partial = partialBeside(location)
    await using stage = await this.#deps.stages.open({ frozen: [record], partial })
    const files = join(stage.path, 'files')
    await this.#dump([{ container, record, directory: files }], timeoutMs, signal)
    const { metadata } = container
    const dump = {
      id: metadata.id,
      name: metadata.name,
      rootfsImage: metadata.config.image?.image ?? '',
      rootfsImageRef: metadata.imageRef,
      rootfsImageName: metadata.config.image?.user_specified_image ?? '',
      runtime: record.runtime.path,
      createdTime: new Date(Number(metadata.createdAtNs / 1_000_000n)).toISOString(),
      checkpointedTime: new Date().toISOString(),
    }
    await writeFile(join(files, 'config.dump'), canonicalJson(dump), { mode: 0o600 })
    await copyFile(join(record.bundleDir, 'config.json'), join(files, 'spec.dump'))
    const members = ['checkpoint', 'config.dump', 'rootfs-diff.tar', 'spec.dump']
    await writeArchive({ stage: stage.path, members, partial, destination: location }, archive, signal)
  }

  /**
   * Containers of one pod as they are at one moment, to an archive in an empty directory. It can be restored on this node.
   * @throws CodedError `InvalidArgument` for the directory, `FailedPrecondition` as {@link ofContainer}.
   */
  async ofPod(
    pod: Pod,
    running: readonly RunningContainer[],
    request: { readonly outputPath: string; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { outputPath, timeoutMs } = request
    const archive = this.#archive(timeoutMs)
    for (const { container, record } of running) await this.#check(container, record, signal)
    await checkOutputDirectory(outputPath, archive, signal)
    const destination = join(outputPath, POD_ARCHIVE)
    const partial = partialBeside(destination)
    await using stage = await this.#deps.stages.open({ frozen: running.map(({ record }) => record), partial })
    const places = running.map((item, at) => ({
      ...item,
      directory: join(stage.path, 'files', 'containers', String(at)),
    }))
    await this.#dump(places, timeoutMs, signal)
    await this.#writeManifest(stage, pod, running, archive, signal)
    await writeArchive({ stage: stage.path, members: [MANIFEST, 'containers'], partial, destination }, archive, signal)
  }

  async #writeManifest(
    stage: Stage,
    pod: Pod,
    running: readonly RunningContainer[],
    archive: ArchiveDeps,
    signal: AbortSignal,
  ): Promise<void> {
    const directory = join(stage.path, 'files')
    const found = await listFiles(directory)
    const hashes = await hashFiles(
      directory,
      found.map(({ path }) => path),
      archive,
      signal,
    )
    const text = encodeManifest(
      {
        runtimePath: pod.runtime.path,
        sandboxId: pod.id,
        sandboxConfig: pod.config,
        containers: running.map(({ container }) => describeContainer(container.metadata)),
        files: found.map((file) => ({ ...file, sha256: hashes.get(file.path) ?? '' })),
      },
      this.#deps.sealer,
    )
    await writeFile(join(directory, MANIFEST), text, { mode: 0o600 })
  }

  async #check({ metadata }: Container, record: ContainerRecord, signal: AbortSignal): Promise<void> {
    const what = `checkpoint container ${metadata.id}`
    if (record.hasUserns) {
      throw new CodedError('FailedPrecondition', `${what}: runtimes do not checkpoint in the user namespace of a pod`)
    }
    await this.#deps.processes.check(record.runtime.path, what, signal)
  }

  async #dump(
    places: readonly (RunningContainer & { readonly directory: string })[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { roots, maxBytes } = this.#options
    const requests = places.map(({ container, record, directory }) => {
      return { record, upper: containerPaths(roots, container.id).upper, directory }
    })
    for (const { directory } of requests) await makeDirectory(directory)
    const { processes, run, failpoints } = this.#deps
    const limits = { maxMembers: MAX_MEMBERS, maxBytes }
    await dumpContainers(requests, { processes, run, failpoints, limits, timeoutMs }, signal)
  }

  #archive(timeoutMs: number): ArchiveDeps & { readonly failpoints: Failpoints } {
    const { run, failpoints } = this.#deps
    return { run, failpoints, timeoutMs, maxBytes: this.#options.maxBytes }
  }
}

function partialBeside(path: string): string {
  return `${path}.${randomBytes(8).toString('hex')}${PARTIAL_SUFFIX}`
}
