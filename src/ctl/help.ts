import { GLOBAL_OPTIONS } from './args.ts'
import type { Command, Options } from './command.ts'
import type { CommandEntry } from './commands.ts'

const WIDTH = 100

/** What `sandboxerctl --help` prints, or `sandboxerctl checkpoint --help`. */
export function overviewText(commands: readonly CommandEntry[], group?: string): string {
  const shown = commands.filter(({ name }) => group === undefined || name.startsWith(`${group} `))
  const width = Math.max(...shown.map(({ name }) => name.length))
  return [
    `Usage: sandboxerctl [OPTION]... ${group === undefined ? '' : `${group} `}COMMAND [ARGUMENT]...`,
    'Looks after sandboxerd, the pod sandbox daemon of this node.',
    '',
    'Commands (sandboxerctl COMMAND --help tells more):',
    ...shown.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'Options of all commands:',
    ...optionLines({ ...GLOBAL_OPTIONS, version: { type: 'boolean', description: 'print the version, then exit' } }),
    '',
    'It ends with 0; with 1 when something failed or is not right; with 2 when it was called wrongly.',
    '',
  ].join('\n')
}

/** What `--help` prints for one command. */
export function commandText({ name, summary }: CommandEntry, command: Command): string {
  const own = optionLines(command.options)
  return [
    ...usageLines(`Usage: sandboxerctl ${name}`, command.usage),
    `${summary[0]?.toUpperCase() ?? ''}${summary.slice(1)}.`,
    '',
    ...command.description
      .trim()
      .split('\n')
      .flatMap((line) => wrap(line, WIDTH)),
    '',
    ...(own.length === 0 ? [] : ['Options:', ...own, '']),
    'Options of all commands:',
    ...optionLines(GLOBAL_OPTIONS),
    '',
  ].join('\n')
}

function optionLines(options: Options): string[] {
  const left = Object.entries(options).map(([name, { short, value }]) => {
    return `  ${short ? `-${short}, ` : '    '}--${name}${value === undefined ? '' : ` ${value}`}`
  })
  const width = Math.max(0, ...left.map((text) => text.length))
  return Object.values(options).flatMap(({ description }, at) => {
    const [first = '', ...rest] = wrap(description, WIDTH - width - 2)
    return [`${(left[at] ?? '').padEnd(width)}  ${first}`, ...rest.map((line) => `${' '.repeat(width + 2)}${line}`)]
  })
}

/** What belongs together, in brackets, stays on one line. */
function usageLines(head: string, usage: string): string[] {
  const lines: string[] = []
  let line = head
  for (const part of usage.split(/ (?=\[)/).filter((text) => text !== '')) {
    if (line.length + 1 + part.length > WIDTH) {
      lines.push(line)
      line = ' '.repeat(head.length)
    }
    line += ` ${part}`
  }
  return [...lines, line]
}

/** Lines that begin with a blank are examples, which stay as they are. */
function wrap(text: string, width: number): string[] {
  if (text === '' || text.startsWith(' ')) return [text]
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = ''
    }
    line += line === '' ? word : ` ${word}`
  }
  return [...lines, line]
}
