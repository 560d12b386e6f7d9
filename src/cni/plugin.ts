import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { z } from 'zod'
import { sleep } from '../core/deadline.ts'
import type { ErrorCode } from '../core/errors.ts'
import { CodedError, errnoOf, errorCode, errorMessage } from '../core/errors.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import { ExecError, type RunProgram, type RunResult } from '../host/programs/outcome.ts'
import type { JsonObject } from './network-config.ts'
import { pluginTypePattern } from './network-config.ts'
import { cniVersions } from './version.ts'

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'

/** One execution of a plugin. */
export interface PluginCall {
  readonly command: CniCommand
  readonly type: string
  readonly config: JsonObject
  /** The CNI_* variables beside CNI_COMMAND and CNI_PATH. */
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** A plugin that failed or could not be run. Its code says what to expect of another try. */
export class CniPluginError extends CodedError {
  override readonly name = 'CniPluginError'
  readonly plugin: string
  readonly command: CniCommand
  /** The number from the plugin's error object (CNI 1.1.0, section 5), if it printed one. */
  readonly pluginCode: number | undefined

  constructor(
    call: Pick<PluginCall, 'command' | 'type'>,
    code: ErrorCode,
    why: string,
    more: { pluginCode?: number | undefined; cause?: unknown } = {},
  ) {
    super(
      code,
      `CNI ${call.command} of plugin ${call.type}: ${why}`,
      more.cause === undefined ? {} : { cause: more.cause },
    )
    this.plugin = call.type
    this.command = call.command
    this.pluginCode = more.pluginCode
  }
}

/** The container is not known to the plugin, so nothing has to be cleaned up for it. */
export const UNKNOWN_CONTAINER = 3

const pluginErrorSchema = z.looseObject({
  code: z.int(),
  msg: z.string().default(''),
  details: z.string().default(''),
})
const versionSchema = z.looseObject({ supportedVersions: z.array(z.string()) })

const BUSY_RETRIES = 10
const BUSY_PAUSE_MS = 100

/**
 * Finds plugins in `binDirs` and runs them. A plugin gets CNI_* and PATH for its environment and nothing of the
 * daemon's, and its process group does not outlive the call.
 */
export class PluginRunner {
  readonly #binDirs: readonly string[]
  readonly #logger: Pick<Logger, 'debug'>
  readonly #runProgram: RunProgram
  readonly #observer: Observer
  readonly #versions = new Map<string, { stamp: string; versions: readonly string[] }>()

  constructor(
    options: { binDirs: readonly string[] },
    deps: { logger: Pick<Logger, 'debug'>; run: RunProgram; observer?: Observer | undefined },
  ) {
    this.#binDirs = options.binDirs
    this.#logger = deps.logger
    this.#runProgram = deps.run
    this.#observer = deps.observer ?? UNOBSERVED
  }

  /** Runs a plugin and returns what it printed. @throws CniPluginError */
  async call(call: PluginCall): Promise<string> {
    const id = call.env?.['CNI_CONTAINERID']
    const activity = { kind: 'cni', name: call.command, plugin: call.type, ...(id ? { id } : {}) } as const
    return this.#observer.run(activity, () => this.#call(call))
  }

  async #call(call: PluginCall): Promise<string> {
    const { path } = await this.#find(call)
    const startedAt = performance.now()
    const result = await this.#run(path, call)
    this.#logger.debug(
      {
        plugin: call.type,
        command: call.command,
        exitCode: result.exitCode,
        durationMs: performance.now() - startedAt,
      },
      'CNI plugin ran',
    )
    if (result.exitCode !== 0) throw pluginFailure(call, result)
    return result.stdout
  }

  /**
   * The versions that a plugin says it supports, asked once for each version of its program.
   * `undefined` when it does not answer: wrappers that never learnt VERSION are in use, and other runtimes do not ask.
   *
   * @throws CniPluginError `FailedPrecondition` when the program does not exist; the signal's reason.
   */
  async supportedVersions(
    type: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<readonly string[] | undefined> {
    const config = { cniVersion: cniVersions[cniVersions.length - 1] }
    // The values mean nothing; plugins built with an old skeleton refuse to start without them.
    const env = { CNI_CONTAINERID: 'dummy', CNI_NETNS: 'dummy', CNI_IFNAME: 'dummy' }
    const call: PluginCall = { command: 'VERSION', type, config, env, timeoutMs, signal }
    const { path, stamp } = await this.#find(call)
    const known = this.#versions.get(path)
    if (known?.stamp === stamp) return known.versions
    try {
      const { supportedVersions } = versionSchema.parse(JSON.parse(await this.call(call)))
      this.#versions.set(path, { stamp, versions: supportedVersions })
      return supportedVersions
    } catch (error) {
      signal.throwIfAborted()
      this.#logger.debug({ plugin: type, error: errorMessage(error) }, 'CNI plugin does not tell its versions')
      return undefined
    }
  }

  async #find(call: Pick<PluginCall, 'command' | 'type'>): Promise<{ path: string; stamp: string }> {
    if (!pluginTypePattern.test(call.type))
      throw new CniPluginError(call, 'InvalidArgument', 'not the name of a program')
    for (const dir of this.#binDirs) {
      const path = join(dir, call.type)
      try {
        const stats = await stat(path)
        if (stats.isFile()) return { path, stamp: `${stats.ino} ${stats.size} ${stats.mtimeMs}` }
      } catch (error) {
        if (!['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) {
          throw new CniPluginError(call, 'Internal', 'cannot look for the program', { cause: error })
        }
      }
    }
    throw new CniPluginError(call, 'FailedPrecondition', `no such program in ${this.#binDirs.join(', ')}`)
  }

  async #run(path: string, call: PluginCall, attempt = 0): Promise<RunResult> {
    try {
      return await this.#runProgram(path, [], {
        env: { ...call.env, CNI_COMMAND: call.command, CNI_PATH: this.#binDirs.join(':') },
        input: JSON.stringify(call.config),
        timeoutMs: call.timeoutMs,
        signal: call.signal,
      })
    } catch (error) {
      // A plugin that is being replaced in place is busy for a moment.
      const isBusy = error instanceof ExecError && errnoOf(error.cause) === 'ETXTBSY'
      if (!isBusy || attempt >= BUSY_RETRIES)
        throw new CniPluginError(call, errorCode(error), errorMessage(error), { cause: error })
      await sleep(BUSY_PAUSE_MS, call.signal)
      return await this.#run(path, call, attempt + 1)
    }
  }
}

function pluginFailure(call: PluginCall, result: RunResult): CniPluginError {
  const parsed = pluginErrorSchema.safeParse(jsonOrUndefined(result.stdout))
  if (!parsed.success) {
    const said = oneLine(result.stderr) || oneLine(result.stdout).slice(0, 1024) || 'it said nothing'
    return new CniPluginError(call, 'Internal', `exit code ${result.exitCode}: ${said}`)
  }
  const { code, msg, details } = parsed.data
  const text = [msg, details]
    .map(oneLine)
    .filter((part) => part !== '')
    .join(': ')
  return new CniPluginError(call, codeOf(code), `${text || 'it gave no reason'} (code ${code})`, { pluginCode: code })
}

/** The reserved codes of CNI 1.1.0, section 5: what the configuration causes, and what passes. */
function codeOf(pluginCode: number): ErrorCode {
  if ([1, 2, 7].includes(pluginCode)) return 'FailedPrecondition'
  return [11, 50, 51].includes(pluginCode) ? 'Unavailable' : 'Internal'
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON: the caller reports the text instead.
    return undefined
  }
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*[\r\n]+\s*/g, '; ')
}
