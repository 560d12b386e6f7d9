import { existsSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { CodedError, errorMessage } from '../core/errors.ts'
import { ExecError, type RunProgram, type RunResult } from '../host/programs/outcome.ts'
import { GO_ARCHITECTURE } from './image-config.ts'
import { configDigestIn, imagesIn, layersIn, type RemoteLayer } from './manifest.ts'
import { redactSecrets, toolError } from './tool-errors.ts'

export interface ImageToolsOptions {
  /** Where the layer store lies, and where its state that ends with a reboot. */
  readonly graph: string
  readonly run: string
  /** Its configuration (containers-storage.conf(5)), see {@link storageConf}. */
  readonly storageConfFile: string
  /** Absolute paths of the programs. */
  readonly skopeo: string
  readonly storageTool: string
  /** containers-registries.conf(5), a directory as containers-certs.d(5), containers-policy.json(5); `''`: the node's own. */
  readonly registriesConf: string
  readonly certsDir: string
  readonly policy: string
  /** Proxies and the like. */
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** What one pull has for itself. */
export interface PullAccess {
  /** A directory for files on the way, removed with all that is in it. */
  readonly scratch: string
  /** The path of an authentication file, or `''`. */
  readonly authFile: string
  /** Never shown. */
  readonly secrets: readonly string[]
}

/** From where an image is copied. */
export interface ImageSource {
  /** For people: what was asked for. */
  readonly what: string
  /** With its transport: `docker://docker.io/library/busybox:latest`. */
  readonly from: string
  /** The host of it, or `''`. */
  readonly registry: string
}

/** Which image a source has now; both are `sha256:…`. */
export interface Resolved {
  /** Of its manifest, or of the index where there is one. */
  readonly digest: string
  /** Of its configuration for this machine. */
  readonly id: string
  /** The manifest or index itself. */
  readonly manifest: string
}

/** By which our programs are known again when we are not there any more. */
export const TOOL_MARK = 'SANDBOXERD_IMAGES'

/** Images in an index for one architecture, which differ in details of it. */
const MAX_VARIANTS = 4

/** Without this option the store's directory stays mounted on itself. */
const STORE_OPTION = 'overlay.skip_mount_home=true'

/** The programs that fetch images and keep the layer store. None of them sees a shell, and none a secret as an argument. */
export class ImageTools {
  readonly #options: ImageToolsOptions
  readonly #run: RunProgram

  constructor(options: ImageToolsOptions, deps: { readonly run: RunProgram }) {
    this.#options = options
    this.#run = deps.run
  }

  /**
   * What a source stands for now.
   * @throws CodedError `FailedPrecondition` for what is not an image of docker v2 or OCI.
   */
  async resolve(source: ImageSource, access: PullAccess, signal: AbortSignal): Promise<Resolved> {
    const manifest = await this.#inspect(source, [], access, signal)
    const digest = sha256Digest(manifest)
    const configDigest = configDigestIn(source.what, manifest)
    if (configDigest !== undefined) return { digest, id: configDigest, manifest }
    // An index: which of its images is for this machine is known to the tool.
    return { digest, id: sha256Digest(await this.#inspect(source, ['--config'], access, signal)), manifest }
  }

  /**
   * The layers of what was resolved; undefined where nobody says how large they are.
   * @param source pinned to its digest.
   */
  async layers(
    source: ImageSource,
    { id, manifest }: Resolved,
    access: PullAccess,
    signal: AbortSignal,
  ): Promise<readonly RemoteLayer[] | undefined> {
    if (configDigestIn(source.what, manifest) !== undefined) return layersIn(manifest)
    const repository = source.from.slice(0, source.from.lastIndexOf('@'))
    for (const digest of imagesIn(manifest, GO_ARCHITECTURE[process.arch]).slice(0, MAX_VARIANTS)) {
      const text = await this.#inspect({ ...source, from: `${repository}@${digest}` }, [], access, signal)
      if (configDigestIn(source.what, text) === id) return layersIn(text)
    }
    return undefined
  }

  /** Copies an image into the store, under `name`. Layers that are there are not fetched. */
  async copy(source: ImageSource, name: string, access: PullAccess, signal: AbortSignal): Promise<void> {
    const { graph, run } = this.#options
    const to = `containers-storage:[overlay@${graph}+${run}:${STORE_OPTION}]${name}`
    const args = ['copy', '--quiet', ...this.#sourceArgs('src-', source.registry, access), source.from, to]
    await this.#skopeo(`pull ${source.what}`, args, access, signal)
  }

  /** Gives an image exactly these names; other images lose them. */
  async setNames(id: string, names: readonly string[], signal: AbortSignal): Promise<void> {
    const args = names.flatMap((name) => ['--name', name])
    await this.#storage('name', ['set-names', ...args, id], signal)
  }

  /** Deletes an image and the layers that nobody else has. @throws CodedError when it is not there, too. */
  async deleteImage(id: string, signal: AbortSignal): Promise<void> {
    await this.#storage('delete', ['delete-image', id], signal)
  }

  /** Deletes layers, in this order. One that others stand on is refused. */
  async deleteLayers(ids: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#storage('delete', ['delete-layer', ...ids], signal)
  }

  /** Returns when everything that was written to the store is on the disk. */
  async sync(signal: AbortSignal): Promise<void> {
    await this.#start('write to the disk', '/bin/sync', ['-f', this.#options.graph], {}, [], signal)
  }

  async unmount(paths: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#start('unmount', '/bin/umount', paths, {}, [], signal)
  }

  /** Removes a directory, however deep. Links are removed, never followed. */
  async removeDeep(paths: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#start('delete', '/bin/rm', ['-rf', '--one-file-system', '--', ...paths], {}, [], signal)
  }

  async #inspect(
    { what, from, registry }: ImageSource,
    options: readonly string[],
    access: PullAccess,
    signal: AbortSignal,
  ): Promise<string> {
    const args = ['inspect', '--raw', ...options, ...this.#sourceArgs('', registry, access), from]
    return (await this.#skopeo(`pull ${what}`, args, access, signal)).stdout
  }

  #sourceArgs(prefix: '' | 'src-', registry: string, { authFile }: PullAccess): string[] {
    const certs = this.#options.certsDir === '' ? '' : join(this.#options.certsDir, registry)
    return [
      ...(authFile === '' ? [] : [`--${prefix}authfile`, authFile]),
      ...(certs !== '' && existsSync(certs) ? [`--${prefix}cert-dir`, certs] : []),
    ]
  }

  async #skopeo(what: string, args: readonly string[], access: PullAccess, signal: AbortSignal): Promise<RunResult> {
    const { skopeo, registriesConf, policy } = this.#options
    const global = [
      ...(registriesConf === '' ? [] : ['--registries-conf', registriesConf]),
      ...(policy === '' ? [] : ['--policy', policy]),
    ]
    return this.#start(what, skopeo, [...global, ...args], { TMPDIR: access.scratch }, access.secrets, signal)
  }

  async #storage(what: string, args: readonly string[], signal: AbortSignal): Promise<void> {
    const { graph, run, storageTool } = this.#options
    const where = ['--graph', graph, '--run', run, '--storage-driver', 'overlay', '--storage-opt', STORE_OPTION]
    const [command = '', ...rest] = args
    await this.#start(`${what} in image store`, storageTool, [command, ...where, ...rest], {}, [], signal)
  }

  async #start(
    what: string,
    file: string,
    args: readonly string[],
    more: Readonly<Record<string, string>>,
    secrets: readonly string[],
    signal: AbortSignal,
  ): Promise<RunResult> {
    const { env, graph, storageConfFile, timeoutMs } = this.#options
    const all = { ...env, CONTAINERS_STORAGE_CONF: storageConfFile, [TOOL_MARK]: graph, ...more }
    let result: RunResult
    try {
      result = await this.#run(file, args, { timeoutMs, signal, env: all })
    } catch (error) {
      throw failed(what, file, error, secrets, signal)
    }
    if (result.exitCode !== 0) throw toolError(what, result.stderr.trim() || result.stdout, secrets)
    return result
  }
}

/** What the tools read beside their arguments. */
export function storageConf({ graph, run }: { readonly graph: string; readonly run: string }): string {
  // A JSON string is a TOML string.
  const [graphroot, runroot] = [JSON.stringify(graph), JSON.stringify(run)]
  return `[storage]
driver = "overlay"
graphroot = ${graphroot}
runroot = ${runroot}
[storage.options.overlay]
skip_mount_home = "true"
`
}

function sha256Digest(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}

/** The arguments of a tool are not repeated: they say nothing to who wants an image. */
function failed(
  what: string,
  file: string,
  error: unknown,
  secrets: readonly string[],
  signal: AbortSignal,
): CodedError {
  if (signal.aborted && signal.reason instanceof CodedError) {
    return new CodedError(signal.reason.code, `${what}: ${signal.reason.message}`)
  }
  if (!(error instanceof ExecError))
    return new CodedError('Internal', `${what}: ${redactSecrets(errorMessage(error), secrets)}`)
  if (error.code === 'Unavailable') {
    return new CodedError('FailedPrecondition', `${what}: ${file} cannot be started: ${errorMessage(error.cause)}`)
  }
  if (error.code === 'DeadlineExceeded') return new CodedError(error.code, `${what}: ${file} does not end`)
  return new CodedError(
    error.code,
    `${what}: ${file} ended before it was done: ${redactSecrets(error.stderr.trim(), secrets)}`,
  )
}
