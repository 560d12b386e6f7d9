import type { ConfigOverride } from '../config/override.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { AdminClient } from './admin-client.ts'
import type { Output } from './output.ts'

/** One option of a command. */
export interface OptionSpec {
  readonly type: 'boolean' | 'string'
  /** One letter. */
  readonly short?: string
  /** What stands for the value in the help: `SECONDS`. Only of strings. */
  readonly value?: string
  /** One sentence without a full stop, in lower case. */
  readonly description: string
}

export type Options = Readonly<Record<string, OptionSpec>>

/** What was given of the options; those that were not are left out. */
export type OptionValues<O extends Options> = {
  readonly [K in keyof O]?: O[K]['type'] extends 'boolean' ? boolean : string
}

/** What a command is called with. Nothing is loaded or opened before it asks for it. */
export interface Call<O extends Options = Options> {
  readonly options: OptionValues<O>
  readonly operands: readonly string[]
  readonly out: Output
  /** Aborts when the user has had enough (SIGINT, SIGTERM). */
  readonly signal: AbortSignal
  /** `--config` and `--set`. */
  readonly configPath: string | undefined
  readonly overrides: readonly ConfigOverride[]
  /** The configuration of the daemon. @throws ConfigError */
  readonly config: () => Promise<LoadedConfig>
  /** The admin socket, which nobody has tried yet. */
  readonly admin: () => Promise<AdminClient>
}

/** One command of sandboxerctl, in a module of its own that is loaded when it is called, or when its help is wanted. */
export interface Command<O extends Options = Options> {
  /** What follows the name: `[--steps] [ID]...`. */
  readonly usage: string
  /** For `--help`: sentences, with examples at the end where they help. */
  readonly description: string
  readonly options: O
  /** How many operands there must be and may be. */
  readonly operands: readonly [min: number, max: number]
  /**
   * Does it, and returns what the process ends with: 0, or 1 when it did all it could and something is not right.
   * @throws UsageError for operands or values that make no sense; anything else is told, and ends with 1.
   */
  run(call: Call<O>): Promise<number>
}

/** Gives a command the types of its options. */
export function defineCommand<const O extends Options>(command: Command<O>): Command {
  return command
}
