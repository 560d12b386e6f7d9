import { parseArgs, type ParseArgsConfig } from 'node:util'
import { UsageError } from '../cli/args.ts'
import { type ConfigOverride, parseOverride } from '../config/override.ts'
import { errorMessage } from '../core/errors.ts'
import type { Options, OptionValues } from './command.ts'
import type { CommandEntry } from './commands.ts'
import { nearest } from './suggest.ts'

/** What all commands have. */
export const GLOBAL_OPTIONS = {
  config: { type: 'string', value: 'PATH', description: 'the configuration of the daemon, as sandboxerd reads it' },
  set: { type: 'string', value: 'KEY=VALUE', description: 'set one key over it; may be repeated' },
  socket: { type: 'string', value: 'PATH', description: 'the admin socket, whatever the configuration says' },
  json: { type: 'boolean', description: 'JSON instead of text for people' },
  help: { type: 'boolean', short: 'h', description: 'print the help of a command, then exit' },
} as const satisfies Options

/** The values of {@link GLOBAL_OPTIONS}. */
export interface GlobalValues {
  readonly configPath: string | undefined
  readonly overrides: readonly ConfigOverride[]
  readonly socketPath: string | undefined
  readonly json: boolean
  readonly help: boolean
}

/** What a command line asks for, before the command is loaded. */
export type Asked =
  | { readonly kind: 'version' }
  /** Of all commands, or of those that begin with a word. */
  | { readonly kind: 'help'; readonly group: string | undefined }
  | { readonly kind: 'command'; readonly entry: CommandEntry; readonly args: readonly string[] }

/**
 * Finds the command in a command line. Global options may stand before it; `args` are those and what follows it.
 * @throws UsageError for a command that there is not, with the nearest one, and for other options before it.
 */
export function findCommand(argv: readonly string[], commands: readonly CommandEntry[]): Asked {
  const before = leadingOptions(argv)
  const words = argv.slice(before.length).filter((_, index, rest) => rest.slice(0, index + 1).every(isWord))
  const [first, second] = words
  if (first === undefined) {
    if (before.includes('--version')) return { kind: 'version' }
    if (before.includes('--help') || before.includes('-h') || argv.length === 0)
      return { kind: 'help', group: undefined }
    throw new UsageError('which command? sandboxerctl --help lists them')
  }
  if (first === 'help') return helpFor(words.slice(1).join(' '), before, commands)
  const entry =
    commands.find(({ name }) => name === `${first} ${second ?? ''}`) ?? commands.find(({ name }) => name === first)
  const nameLength = entry?.name.split(' ').length ?? 0
  if (entry) return { kind: 'command', entry, args: [...before, ...argv.slice(before.length + nameLength)] }
  const group = commands.filter(({ name }) => name.startsWith(`${first} `))
  if (group.length === 0) throw unknownCommand(first, commands)
  if (second !== undefined) throw unknownCommand(`${first} ${second}`, group)
  const wantsHelp = argv.includes('--help') || argv.includes('-h')
  if (wantsHelp) return { kind: 'help', group: first }
  throw new UsageError(`${first}: which of ${group.map(({ name }) => name).join(', ')}?`)
}

function helpFor(name: string, before: readonly string[], commands: readonly CommandEntry[]): Asked {
  if (name === '') return { kind: 'help', group: undefined }
  const entry = commands.find((command) => command.name === name)
  if (entry) return { kind: 'command', entry, args: [...before, '--help'] }
  if (commands.some((command) => command.name.startsWith(`${name} `))) return { kind: 'help', group: name }
  throw unknownCommand(name, commands)
}

function unknownCommand(typed: string, commands: readonly CommandEntry[]): UsageError {
  const names = commands.map(({ name }) => name)
  const near = nearest(typed, names) ?? nearest(typed, [...new Set(names.map((name) => name.split(' ')[0] ?? ''))])
  const hint = near === undefined ? 'sandboxerctl --help lists them' : `did you mean ${near}?`
  return new UsageError(`there is no command ${typed}: ${hint}`)
}

/** The options at the beginning, each with its value. */
function leadingOptions(argv: readonly string[]): readonly string[] {
  let end = 0
  for (let arg = argv[end]; arg !== undefined && !isWord(arg); arg = argv[end]) {
    const [name = ''] = arg.replace(/^--?/, '').split('=')
    const spec = Object.entries<Options[string]>(GLOBAL_OPTIONS).find(
      ([key, { short }]) => name === key || name === short,
    )
    if (!spec && arg !== '--version') throw new UsageError(`${arg}: options of a command stand after its name`)
    end += spec?.[1].type === 'string' && !arg.includes('=') ? 2 : 1
  }
  return argv.slice(0, end)
}

function isWord(arg: string): boolean {
  return !arg.startsWith('-')
}

/**
 * Reads what follows the name of a command.
 * @throws UsageError that names what cannot be understood.
 */
export function parseCommandArgs<O extends Options>(
  name: string,
  args: readonly string[],
  command: { readonly options: O; readonly operands: readonly [number, number]; readonly usage: string },
): { readonly global: GlobalValues; readonly options: OptionValues<O>; readonly operands: readonly string[] } {
  const { values, positionals } = parse(name, args, command.options)
  const { config, set, socket, json, help, ...options } = values as Record<string, string | boolean | string[]>
  const global: GlobalValues = {
    configPath: onlyOne('--config', config),
    overrides: (Array.isArray(set) ? set : []).map(toOverride),
    socketPath: onlyOne('--socket', socket),
    json: json === true,
    help: help === true,
  }
  const [min, max] = command.operands
  const isWrong = positionals.length < min || positionals.length > max
  if (isWrong && !global.help) throw new UsageError(`usage: sandboxerctl ${name} ${command.usage}`.trimEnd())
  return { global, options: options as OptionValues<O>, operands: positionals }
}

function parse(name: string, args: readonly string[], options: Options) {
  const known: NonNullable<ParseArgsConfig['options']> = {}
  for (const [key, { type, short }] of Object.entries({ ...options, ...GLOBAL_OPTIONS } as Options)) {
    known[key] = {
      type,
      ...(short ? { short } : {}),
      ...(['config', 'set', 'socket'].includes(key) ? { multiple: true } : {}),
    }
  }
  try {
    return parseArgs({ args: [...args], options: known, strict: true, allowPositionals: true })
  } catch (error) {
    // The sentences that Node adds explain its own conventions, not ours.
    const why = errorMessage(error).split(/\. (?:To specify|Did you forget)/, 1)[0] ?? ''
    const unknown = /^Unknown option '--?([^']+)'/.exec(why)?.[1]
    const near = unknown === undefined ? undefined : nearest(unknown, Object.keys(known))
    const hint = near === undefined ? '' : `; did you mean --${near}?`
    throw new UsageError(`${name}: ${why.replaceAll(/\s*\n\s*/g, ' ')}${hint}`, { cause: error })
  }
}

function onlyOne(option: string, values: unknown): string | undefined {
  const [value, ...further] = Array.isArray(values) ? (values as string[]) : []
  if (further.length > 0) throw new UsageError(`${option} may be given only once`)
  if (value === '') throw new UsageError(`${option} must name a file`)
  return value
}

function toOverride(text: string): ConfigOverride {
  try {
    return parseOverride(text)
  } catch (error) {
    throw new UsageError(`--${errorMessage(error)}`, { cause: error })
  }
}

/**
 * The number that an option gives.
 * @throws UsageError when it is none, or not from `min` to `max`.
 */
export function numberOption(
  option: string,
  text: string | undefined,
  { byDefault, min, max }: { readonly byDefault: number; readonly min: number; readonly max: number },
): number {
  if (text === undefined) return byDefault
  const value = Number(text)
  if (text.trim() !== '' && value >= min && value <= max) return value
  throw new UsageError(`${option} ${text}: must be a number from ${min} to ${max}`)
}
