import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errnoOf, errorCode, errorMessage } from '../core/errors.ts'
import { makeDirectory, removeTree } from '../host/files.ts'
import { ExecError } from '../host/outcome.ts'
import { runOk } from '../host/run.ts'
import { type ImageProgram, imageProgram, readImageConfig } from './image-config.ts'

export interface PauseImageOptions {
  /** A registry reference (`registry.k8s.io/pause:3.10`), or any source of skopeo with its transport (`oci:/path:tag`). */
  readonly reference: string
  /** Where it is kept. Nobody else writes there. */
  readonly directory: string
  /** Absolute paths of the programs that fetch and unpack it. */
  readonly skopeo: string
  readonly umoci: string
  /** For one pull with all that belongs to it. */
  readonly pullTimeoutMs: number
  /** For skopeo: proxies, credentials. */
  readonly env: Readonly<Record<string, string>>
}

/** What is run of the image, and where it is. */
export interface PauseImageProgram extends ImageProgram {
  readonly rootfsPath: string
}

/** Mount points that OCI runtimes want to find in a root file system that they may not write to. */
const MOUNT_POINTS = ['proc', 'dev', 'sys']

const TRANSPORT = /^(?:docker:\/\/|(?:oci|oci-archive|docker-archive|docker-daemon|dir|containers-storage):)/

/**
 * The root file system of pause containers, made of an image. It is pulled once, and kept for as long as the
 * configuration names this reference; pods then start without a registry.
 */
export class PauseImage implements AsyncDisposable {
  readonly #options: PauseImageOptions
  readonly #path: string
  readonly #closing = new AbortController()
  #program: PauseImageProgram | undefined
  #pulling: Promise<void> | undefined

  constructor(options: PauseImageOptions) {
    this.#options = options
    const hash = createHash('sha256').update(options.reference).digest('hex').slice(0, 16)
    this.#path = join(options.directory, `image-${hash}`)
  }

  /**
   * Takes up what an earlier daemon has pulled, and removes what one left unfinished. Called once, before all else.
   * What is there and cannot be read is an error: pods may run on it.
   */
  async load(): Promise<void> {
    const { directory } = this.#options
    await makeDirectory(directory)
    const unfinished = (await readdir(directory)).filter((name) => /^image-[0-9a-f]{16}\.tmp$/.test(name))
    for (const name of unfinished) await removeTree(join(directory, name))
    this.#program = await this.#readKept()
  }

  /**
   * Makes sure that the image is there. Callers share one pull, which goes on when one of them gives up.
   *
   * @throws CodedError `Unavailable` when it cannot be pulled, `FailedPrecondition` when a program for that is missing
   * or the image is not one to run, `DeadlineExceeded`; nothing is left then. Or the reason of the signal.
   */
  async ensure(signal: AbortSignal): Promise<void> {
    if (this.#program) return
    this.#pulling ??= this.#pull().finally(() => {
      this.#pulling = undefined
    })
    await waitFor(this.#pulling, signal)
  }

  /** @throws CodedError `FailedPrecondition` when it was not pulled yet. */
  program(): PauseImageProgram {
    if (this.#program) return this.#program
    throw new CodedError('FailedPrecondition', `pause image ${this.#options.reference}: not pulled yet`)
  }

  /** Ends a pull that is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new CodedError('Canceled', 'the daemon stops'))
    await this.#pulling?.catch(() => undefined)
  }

  async #readKept(): Promise<PauseImageProgram | undefined> {
    const path = join(this.#path, 'program.json')
    try {
      return { ...(JSON.parse(await readFile(path, 'utf8')) as ImageProgram), rootfsPath: this.#rootfs(this.#path) }
    } catch (cause) {
      if (errnoOf(cause) === 'ENOENT') return undefined
      throw new CodedError('FailedPrecondition', `read pause image ${path}: ${errorMessage(cause)}`, { cause })
    }
  }

  async #pull(): Promise<void> {
    const { reference, pullTimeoutMs } = this.#options
    const temporary = `${this.#path}.tmp`
    using limit = deadline(`pull pause image ${reference}`, pullTimeoutMs, this.#closing.signal)
    try {
      await removeTree(temporary)
      await makeDirectory(temporary)
      const program = await this.#unpackInto(temporary, limit.signal)
      await writeFile(join(temporary, 'program.json'), JSON.stringify(program))
      // A power cut must not leave half of it under the final name.
      await this.#run('/bin/sync', ['-f', temporary], limit.signal)
      await rename(temporary, this.#path)
      this.#program = { ...program, rootfsPath: this.#rootfs(this.#path) }
    } catch (cause) {
      await removeTree(temporary)
      throw new CodedError(codeOf(cause), `pull pause image ${reference}: ${errorMessage(cause)}`, { cause })
    }
  }

  async #unpackInto(directory: string, signal: AbortSignal): Promise<ImageProgram> {
    const { reference, skopeo, umoci } = this.#options
    const source = TRANSPORT.test(reference) ? reference : `docker://${reference}`
    const layout = join(directory, 'layout')
    // Of what it keeps on the way nothing shall be left elsewhere.
    const scratch = join(directory, 'scratch')
    await mkdir(scratch)
    await this.#run(skopeo, ['copy', '--quiet', source, `oci:${layout}:pause`], signal, { TMPDIR: scratch })
    const program = imageProgram(await readImageConfig(layout))
    await this.#run(umoci, ['raw', 'unpack', '--image', `${layout}:pause`, this.#rootfs(directory)], signal)
    for (const point of MOUNT_POINTS) await makeMountPoint(join(this.#rootfs(directory), point))
    await removeTree(layout)
    await removeTree(scratch)
    return program
  }

  #rootfs(directory: string): string {
    return join(directory, 'rootfs')
  }

  async #run(file: string, args: readonly string[], signal: AbortSignal, env: Record<string, string> = {}) {
    const options = { timeoutMs: this.#options.pullTimeoutMs, signal, env: { ...this.#options.env, ...env } }
    await runOk(file, args, options)
  }
}

async function makeMountPoint(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o755 })
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    // A link would lead the runtime elsewhere.
    if ((await lstat(path)).isDirectory()) return
    throw new CodedError('FailedPrecondition', `its ${path.slice(path.lastIndexOf('/'))} is not a directory`)
  }
}

/** A program that fails says only in words why; one that cannot be started is missing. */
function codeOf(error: unknown): CodedError['code'] {
  if (!(error instanceof ExecError)) return errorCode(error)
  if (error.code === 'Unavailable') return 'FailedPrecondition'
  return error.code === 'Internal' ? 'Unavailable' : error.code
}
