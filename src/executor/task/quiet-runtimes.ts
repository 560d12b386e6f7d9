import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import type { loadShimApi } from '../../grpc/load.ts'
import { makeDirectory, readTextIfAny, writeFileAtomic } from '../../host/files.ts'
import type { TaskRecord } from '../types.ts'
import { runcOptionsIn } from './task-messages.ts'

export interface QuietRuntimesDeps {
  readonly api: Pick<ReturnType<typeof loadShimApi>, 'containerd'>
}

/**
 * The OCI runtimes that shims shall run for containers in user namespaces: scripts that see to the standard streams before
 * they become the runtime. A shim has the node's /dev/null for a missing input, and beside a terminal; crun (until August
 * 2025) gives its streams to the root of the user namespace, whatever they are.
 */
export class QuietRuntimes {
  readonly #options: { readonly directory: string }
  readonly #deps: QuietRuntimesDeps
  readonly #scripts = new Map<string, Promise<string>>()

  /** @param options.directory for the scripts; they stay, since shims and records name them. Programs can be run there. */
  constructor(options: { readonly directory: string }, deps: QuietRuntimesDeps) {
    this.#options = options
    this.#deps = deps
  }

  /** The options with such a script in place of the runtime; other shims than that of runc get theirs as they are. */
  async quiet(options: TaskRecord['options']): Promise<TaskRecord['options']> {
    const given = runcOptionsIn(options, this.#deps.api)
    if (!options || !given || given.binary_name === '') return options
    const script = this.#scripts.get(given.binary_name) ?? this.#make(given.binary_name)
    const { task_api_address: _address, task_api_version: _version, ...rest } = given
    const wanted = { ...rest, binary_name: await script }
    const value = this.#deps.api.containerd.runc.v1.Options.serialize(wanted).toString('base64')
    return { ...options, value }
  }

  async #make(runtime: string): Promise<string> {
    const made = this.#write(runtime)
    this.#scripts.set(runtime, made)
    // The next one tries again.
    made.catch(() => this.#scripts.delete(runtime))
    return made
  }

  /** The name of the runtime stays: it tells what it can do. */
  async #write(runtime: string): Promise<string> {
    const directory = join(this.#options.directory, createHash('sha256').update(runtime).digest('hex').slice(0, 16))
    const path = join(directory, basename(runtime))
    const content = scriptFor(runtime)
    if ((await readTextIfAny(path)) === content) return path
    await makeDirectory(directory)
    await writeFileAtomic(path, content, 0o700)
    return path
  }
}

/** What is a device becomes a pipe of its own: it reads as empty, and takes no output. */
function scriptFor(runtime: string): string {
  return `#!/bin/sh
exec 9<<END
END
[ -c /proc/self/fd/0 ] && exec 0<&9
[ -c /proc/self/fd/1 ] && exec 1>&9
[ -c /proc/self/fd/2 ] && exec 2>&9
exec 9<&-
exec '${runtime.replaceAll("'", String.raw`'\''`)}' "$@"
`
}
