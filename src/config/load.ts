import { readFile } from 'node:fs/promises'
import { errnoOf, errorMessage } from '../core/errors.ts'
import type { Config } from './config.ts'
import type { ConfigOverride } from './override.ts'
import { ConfigError, parseSettings } from './parse.ts'
import type { Settings } from './schema.ts'

/** Where the configuration is looked for when the command line names no file. */
export const DEFAULT_CONFIG_PATH = '/etc/sandboxerd/config.toml'

export interface LoadOptions {
  /** The file that the command line names: it must exist. */
  readonly path?: string | undefined
  readonly overrides?: readonly ConfigOverride[]
  /** The file that is read when `path` is not given, if it exists. Default {@link DEFAULT_CONFIG_PATH}. */
  readonly defaultPath?: string
}

export interface LoadedConfig {
  readonly config: Config
  /** The same as the file has it. */
  readonly settings: Settings
  /** The file it came from; undefined for the embedded defaults. */
  readonly file: string | undefined
}

/**
 * Reads, parses and validates the configuration.
 *
 * @throws ConfigError when the file cannot be read or used. Only a default file that does not exist is no error.
 */
export async function loadConfig(options: LoadOptions = {}): Promise<LoadedConfig> {
  const file = options.path ?? options.defaultPath ?? DEFAULT_CONFIG_PATH
  const text = await readText(file, options.path !== undefined)
  const source = text === undefined ? 'embedded defaults' : file
  const parsed = parseSettings(text ?? '', source, options.overrides)
  return { ...parsed, file: text === undefined ? undefined : file }
}

async function readText(file: string, mustExist: boolean): Promise<string | undefined> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(file))
  } catch (error) {
    if (!mustExist && errnoOf(error) === 'ENOENT') return undefined
    throw new ConfigError(file, [`cannot be read: ${errorMessage(error)}`], { cause: error })
  }
}
