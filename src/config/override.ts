import { parse, type TomlTable, type TomlValue } from 'smol-toml'
import { CodedError } from '../core/errors.ts'

/** One key that is set from the command line, over what the file says. */
export interface ConfigOverride {
  readonly path: readonly string[]
  readonly value: TomlValue
}

/**
 * Reads `key.path=value`. The key is a TOML key, quoted where it must be; the value is a TOML value, or, where it is none,
 * the text as it stands, so that `log.level=debug` needs no quotes.
 *
 * @throws CodedError `InvalidArgument` when there is no `=` or the key is not one.
 */
export function parseOverride(text: string): ConfigOverride {
  // The `=` that ends the key: quoted parts of it may hold others.
  const match = /^((?:"[^"]*"|'[^']*'|[^="'])+)=(.*)$/s.exec(text)
  const path = match?.[1] === undefined ? undefined : parseKey(match[1])
  if (path === undefined || match?.[2] === undefined) {
    throw new CodedError('InvalidArgument', `set ${JSON.stringify(text)}: must be key.path=value`)
  }
  return { path, value: parseValue(match[2]) }
}

/**
 * Puts the overrides into the table, which it changes; a later one wins.
 *
 * @returns what could not be set because something on the way to it is not a table.
 */
export function applyOverrides(table: TomlTable, overrides: readonly ConfigOverride[]): string[] {
  const problems: string[] = []
  for (const { path, value } of overrides) {
    const parent = path.slice(0, -1).reduce<TomlTable | undefined>(enter, table)
    const last = path.at(-1)
    if (parent === undefined || last === undefined)
      problems.push(`${path.join('.')}: cannot be set, it is not in a table`)
    else define(parent, last, value)
  }
  return problems
}

function enter(table: TomlTable | undefined, step: string): TomlTable | undefined {
  if (table === undefined) return undefined
  if (!Object.hasOwn(table, step)) define(table, step, Object.create(null) as TomlTable)
  const value = table[step]
  return isTable(value) ? value : undefined
}

/** Never runs a setter: `__proto__` is a key like any other, to be refused by name later. */
function define(table: TomlTable, key: string, value: TomlValue): void {
  Object.defineProperty(table, key, { value, enumerable: true, configurable: true, writable: true })
}

function isTable(value: unknown): value is TomlTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

function parseKey(text: string): string[] | undefined {
  if (/[\r\n]/.test(text)) return undefined
  let value: unknown = tryParse(`${text} = 0`)
  const path: string[] = []
  while (isTable(value)) {
    const [key, ...others] = Object.keys(value)
    if (key === undefined || others.length > 0) return undefined
    path.push(key)
    value = value[key]
  }
  return path.length > 0 ? path : undefined
}

function parseValue(text: string): TomlValue {
  const table = tryParse(`value = ${text}`)
  const value = table?.['value']
  return table === undefined || value === undefined || Object.keys(table).length > 1 ? text : value
}

function tryParse(text: string): TomlTable | undefined {
  try {
    return parse(text)
  } catch {
    // Not TOML is an answer here, not a failure.
    return undefined
  }
}
