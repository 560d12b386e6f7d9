import { stringify } from 'smol-toml'
import { describeConfig, type KeyDescription, type SectionDescription } from './describe.ts'

const WIDTH = 100

/** The whole configuration file with its defaults, every key explained. Parsing it gives the embedded defaults. */
export function defaultConfigToml(): string {
  const head = comment('The configuration of sandboxerd. Every key may be left out; these are the defaults.')
  return `${[head, ...describeConfig().map(sectionToml)].join('\n\n')}\n`
}

function sectionToml({ name, description, keys, entries }: SectionDescription): string {
  if (name === '') return keys.map(explainedKey).join('\n\n')
  if (entries === undefined) return [comment(description), `[${name}]`, keys.map(explainedKey).join('\n\n')].join('\n')
  const example = [`[${name}.NAME]`, ...keys.map(({ name: key, description: text }) => `  ${key}: ${text}`)]
  const tables = Object.entries(entries).map(([entry, values]) =>
    [`[${name}.${entry}]`, ...Object.entries(values).map(([key, value]) => assignment(key, value))].join('\n'),
  )
  return [[comment(description), ...example.map((line) => comment(line))].join('\n'), ...tables].join('\n\n')
}

function explainedKey({ name, description, byDefault }: KeyDescription): string {
  return `${comment(description)}\n${assignment(name, byDefault)}`
}

/** One line of TOML. A table becomes an inline one: one of its own would end the table that it stands in. */
export function assignment(key: string, value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return stringify({ [key]: value }).trimEnd()
  const members = Object.entries(value).map(([name, member]) => assignment(name, member))
  return `${key} = {${members.length === 0 ? '' : ` ${members.join(', ')} `}}`
}

function comment(text: string): string {
  const lines: string[] = []
  let line = '#'
  for (const word of text.split(' ')) {
    if (line.length + 1 + word.length > WIDTH) {
      lines.push(line)
      line = '#'
    }
    line += ` ${word}`
  }
  return [...lines, line].join('\n')
}
