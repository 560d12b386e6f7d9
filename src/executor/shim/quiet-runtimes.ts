import { createHash } from 'node:crypto'
import { chmod } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import { makeDirectory, writeFileAtomic } from '../../host/files.ts'
import { runtimeOf, withRuntime } from './runtime-options.ts'
import type { TaskOptions } from './types.ts'

/**
 * Runtimes as shims shall call them for containers in user namespaces. A shim opens the node's /dev/null for every stream that
 * is missing, and for all of them beside a terminal; crun (until August 2025) gives its standard streams to the root of
 * the namespace, whatever they are. It is called by a script that puts an empty pipe in the place of each.
 */
export class QuietRuntimes {
  readonly #scripts: ReadonlyMap<string, string>
  readonly #messages: ProtoGrpcType

  private constructor(scripts: ReadonlyMap<string, string>, messages: ProtoGrpcType) {
    this.#scripts = scripts
    this.#messages = messages
  }

  /** @param directory of a file system that programs can be run from. @param paths of the runtimes that shims may be told. */
  static async prepare(
    directory: string,
    paths: readonly string[],
    deps: { readonly messages: ProtoGrpcType },
  ): Promise<QuietRuntimes> {
    const scripts = new Map<string, string>()
    for (const path of new Set(paths.filter(isCrun))) {
      const place = join(directory, createHash('sha256').update(path).digest('hex').slice(0, 16))
      const script = join(place, 'crun')
      await makeDirectory(place)
      await writeFileAtomic(script, scriptOf(path), 0o700)
      await chmod(script, 0o700)
      scripts.set(path, script)
    }
    return new QuietRuntimes(scripts, deps.messages)
  }

  /** @throws CodedError `FailedPrecondition` for a crun that there is no script for. */
  optionsOf(options: TaskOptions | null): TaskOptions | null {
    const path = runtimeOf(options, '', this.#messages)?.path ?? ''
    if (options === null || !isCrun(path)) return options
    const script = this.#scripts.get(path)
    if (script !== undefined) return withRuntime(options, script, this.#messages)
    throw new CodedError(
      'FailedPrecondition',
      `run a container in a user namespace by a shim: ${path} is not configured`,
    )
  }
}

function isCrun(path: string): boolean {
  return basename(path).startsWith('crun')
}

function scriptOf(path: string): string {
  const quoted = `'${path.replaceAll("'", "'\\''")}'`
  return `#!/bin/sh
exec 3<<END
END
for fd in 0 1 2; do
  [ "/proc/self/fd/$fd" -ef /dev/null ] && eval "exec $fd<&3"
done
exec ${quoted} "$@" 3<&-
`
}
