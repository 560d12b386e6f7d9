import { open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import { DEFAULT_PATH } from '../host/programs/outcome.ts'
import type { Programs } from '../host/programs/programs.ts'

const CHECK_MS = 30_000
const LOG_TAIL_BYTES = 256 * 1024
const SHOWN_ERRORS = 3

/** The criu of the node, which OCI runtimes run: they look for a program of that name. */
export class Criu {
  readonly #path: string
  readonly #programs: Programs

  constructor(options: { readonly path: string }, deps: { readonly programs: Programs }) {
    this.#path = options.path
    this.#programs = deps.programs
  }

  /** The environment in which a runtime finds it. */
  get env(): Readonly<Record<string, string>> {
    return { PATH: `${dirname(this.#path)}:${DEFAULT_PATH}` }
  }

  /**
   * Makes sure that it is there and that the kernel has what it needs.
   * @throws CodedError `FailedPrecondition` with what criu said.
   */
  async check(what: string, signal: AbortSignal): Promise<void> {
    const fail = (why: string, cause?: unknown): CodedError =>
      new CodedError('FailedPrecondition', `${what}: ${why}`, { cause })
    if (basename(this.#path) !== 'criu') throw fail(`runtimes look for a program "criu", which ${this.#path} is not`)
    const options = { timeoutMs: CHECK_MS, signal }
    const result = await this.#programs.run(this.#path, ['check'], options).catch((error: unknown) => {
      signal.throwIfAborted()
      throw fail(`criu cannot be run on this node (${errorMessage(error)})`, error)
    })
    if (result.exitCode === 0) return
    const said = `${result.stdout}\n${result.stderr}`.split('\n').findLast((line) => line.includes('Error'))
    throw fail(`criu does not work on this kernel: ${said?.trim() ?? `exit code ${result.exitCode}`}`)
  }
}

/** What criu wrote down of its errors, the last ones, on one line; `''` when there is nothing. */
export async function criuErrors(workDir: string, log: 'dump.log' | 'restore.log'): Promise<string> {
  const lines = (await tail(join(workDir, log))).split('\n').filter((line) => line.includes('Error (criu/'))
  // One is always there where limits cannot be raised, and harms nobody.
  const errors = lines
    .filter((line) => !line.includes('RLIMIT_NOFILE'))
    .map((line) => line.replace(/^\([\d.]+\)\s*/, ''))
  return errors.slice(-SHOWN_ERRORS).join('; ')
}

async function tail(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    const length = Math.min(size, LOG_TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length)
    return buffer.subarray(0, bytesRead).toString()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw error
  }
}
