import { parse, TomlError, type TomlTable } from 'smol-toml'
import type { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import { type Config, toConfig } from './config.ts'
import { crossProblems } from './cross-checks.ts'
import { applyOverrides, type ConfigOverride } from './override.ts'
import { type Settings, settingsSchema } from './schema.ts'

/** A configuration that cannot be used. `problems` has all that is wrong with it, each beginning with its key. */
export class ConfigError extends CodedError {
  override readonly name = 'ConfigError'
  readonly problems: readonly string[]

  /** @param source the file, or what stands for it. */
  constructor(source: string, problems: readonly string[], options?: { cause?: unknown }) {
    super('InvalidArgument', `read the configuration ${source}: ${problems.join('; ')}`, options)
    this.problems = problems
  }
}

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]

/**
 * Makes a configuration from TOML text and what the command line puts over it. Does not look at the machine.
 *
 * @param source how errors name the text: its file.
 * @throws ConfigError with every problem at once; for text that is not TOML, with the line and the column.
 */
export function parseConfig(text: string, source: string, overrides: readonly ConfigOverride[] = []): Config {
  return parseSettings(text, source, overrides).config
}

/** Like {@link parseConfig}, also with what the configuration was made from: its keys as the file has them. */
export function parseSettings(
  text: string,
  source: string,
  overrides: readonly ConfigOverride[] = [],
): { readonly settings: Settings; readonly config: Config } {
  const table = parseToml(text, source)
  const conflicts = applyOverrides(table, overrides)
  if (conflicts.length > 0) throw new ConfigError(source, conflicts)

  const found = [...prototypeKeys(table)]
  const result = settingsSchema.safeParse(table, { error: explain })
  if (!result.success) found.push(...result.error.issues.flatMap(issueProblems))
  const broken = found.map(({ path }) => keyName(path))
  const settings = result.success ? result : settingsSchema.safeParse(without(table, found))
  const config = settings.success ? toConfig(settings.data) : undefined

  const across = config === undefined ? [] : crossProblems(config)
  const problems = [
    ...found.map(({ path, message }) => `${keyName(path)}: ${message}`),
    ...across
      .filter(({ key, dependsOn }) => ![key, ...dependsOn].some((needed) => broken.some((bad) => meets(bad, needed))))
      .map(({ key, message }) => `${key}: ${message}`),
  ]
  if (!settings.success || config === undefined || problems.length > 0) throw new ConfigError(source, problems)
  return { settings: settings.data, config }
}

function parseToml(text: string, source: string): TomlTable {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const why = error.message.split('\n', 1)[0]?.replace('Invalid TOML document: ', '')
    throw new ConfigError(source, [`line ${error.line}, column ${error.column}: ${why}`], { cause: error })
  }
}

interface Found {
  readonly path: Path
  readonly message: string
}

/** zod passes over a key `__proto__` of a record in silence, and we refuse what we do not know. */
function prototypeKeys(table: TomlTable): Found[] {
  return ['runtimes', 'sandboxers'].flatMap((key) => {
    const value = table[key]
    const has = typeof value === 'object' && value !== null && Object.hasOwn(value, '__proto__')
    return has ? [{ path: [key, '__proto__'], message: 'is not a name that can be used' }] : []
  })
}

function issueProblems(issue: Issue): Found[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: 'unknown key' }))
  }
  const inner = issue.code === 'invalid_key' ? issue.issues[0] : undefined
  return [{ path: issue.path, message: inner?.message ?? issue.message }]
}

/** The words for what zod itself finds; what `schema.ts` checks has words of its own. */
function explain(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_type') {
    return issue.input === undefined
      ? 'is missing'
      : `must be ${typeName(issue.expected)}, not ${describe(issue.input)}`
  }
  if (issue.code === 'invalid_value') return `must be one of ${issue.values.map((value) => String(value)).join(', ')}`
  if (issue.code === 'too_small' && issue.origin === 'array') return 'must not be empty'
  return undefined
}

function typeName(expected: string): string {
  if (expected === 'object' || expected === 'record') return 'a table'
  return expected === 'array' ? 'an array' : `a ${expected}`
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'an array'
  if (value instanceof Date) return 'a date'
  if (Number.isNaN(value)) return 'nan'
  return typeName(typeof value)
}

/** A copy of the table where what was found wrong is left out, so that the keys can be held against each other. */
function without(table: TomlTable, found: readonly Found[]): TomlTable {
  const copy = structuredClone(table)
  for (const { path } of found) {
    // A remote sandboxer has no default address, and an array is only right as a whole.
    const index = path.findIndex((step) => typeof step === 'number')
    const end = path[0] === 'sandboxers' ? 2 : index === -1 ? path.length : index
    removeAt(copy, path.slice(0, end))
  }
  return copy
}

function removeAt(table: object, path: Path): void {
  const [step, ...rest] = path
  if (step === undefined || !Object.hasOwn(table, step)) return
  if (rest.length === 0) Reflect.deleteProperty(table, step)
  const value: unknown = Reflect.get(table, step)
  if (rest.length > 0 && typeof value === 'object' && value !== null) removeAt(value, rest)
}

/** The key as one would write it in the file: `runtimes."a b".runtime`, `cni.bin_dirs[1]`. */
function keyName(path: Path): string {
  let name = ''
  for (const step of path) {
    if (typeof step === 'number') name += `[${step}]`
    else {
      const text = String(step)
      name += `${name && '.'}${/^[\w.-]+$/.test(text) ? text : JSON.stringify(text)}`
    }
  }
  return name
}

/** True when one of the keys is the other, or inside it. */
function meets(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`) || a.startsWith(`${b}[`)
}
