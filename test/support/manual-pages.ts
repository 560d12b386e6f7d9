import { DAEMON_USAGE } from '../../src/cli/args.ts'
import { assignment } from '../../src/config/default-toml.ts'
import { describeConfig, type KeyDescription, type SectionDescription } from '../../src/config/describe.ts'
import { DEFAULT_CONFIG_PATH } from '../../src/config/load.ts'
import { GLOBAL_OPTIONS } from '../../src/ctl/args.ts'
import type { Command, Options } from '../../src/ctl/command.ts'
import { COMMANDS } from '../../src/ctl/commands.ts'
import { stringify } from 'smol-toml'

/** An option as a page has it: `--config PATH` and what it does. */
interface Option {
  readonly term: string
  readonly text: string
}

/** Text as roff prints it, whatever is in it. */
function plain(text: string): string {
  const escaped = text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('"', '\\(dq')
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped
}

const bold = (text: string): string => `\\fB${plain(text)}\\fR`
const paragraph = (text: string): string => `.PP\n${plain(text)}`
const entry = (term: string, text: string): string => `.TP\n${bold(term)}\n${plain(text)}`
const verbatim = (lines: readonly string[]): string => ['.PP', '.nf', ...lines.map(plain), '.fi'].join('\n')

/** A page: its head, and its sections in order. */
function page(
  name: string,
  part: number,
  summary: string,
  sections: Readonly<Record<string, readonly string[]>>,
): string {
  const head = [
    '.\\" Made by test/unit/packaging/manual-pages.test.ts: vitest -u writes it anew.',
    `.TH ${name.toUpperCase()} ${part} "" sandboxerd`,
    '.SH NAME',
    `${plain(name)} \\- ${plain(summary)}`,
  ]
  const body = Object.entries(sections).flatMap(([title, texts]) => [`.SH ${title}`, ...texts])
  return `${[...head, ...body].join('\n')}\n`
}

/** The options that the help of the daemon lists. */
export function daemonOptions(): Option[] {
  const options: { term: string; text: string }[] = []
  for (const line of DAEMON_USAGE.split('\n')) {
    const [, term, text] = /^ {2}(--\S+(?: \S+)?) {2,}(\S.*)$/.exec(line) ?? []
    const last = options.at(-1)
    if (term !== undefined && text !== undefined) options.push({ term, text })
    else if (/^ {10}/.test(line) && last) last.text += ` ${line.trim()}`
  }
  return options
}

/** sandboxerd(8). */
export function daemonPage(): string {
  return page('sandboxerd', 8, 'the pod sandbox daemon of a Kubernetes node', {
    SYNOPSIS: [`${bold('sandboxerd')} [\\fIOPTION\\fR]...`],
    DESCRIPTION: [
      plain(
        'sandboxerd serves the Kubernetes Container Runtime Interface and the sandbox API of containerd on Unix sockets: ' +
          'it makes pods, their networks and their containers with OCI runtimes, CNI plugins and skopeo, and keeps a record of every resource.',
      ),
      paragraph(
        'Pods do not hang on the daemon. It may be stopped, killed, restarted and upgraded at any time: pods and containers go on, ' +
          'and the next daemon takes them over. What was under way is finished or taken back.',
      ),
      paragraph('It runs in the foreground and logs to standard output; systemd runs it as sandboxerd.service.'),
    ],
    OPTIONS: daemonOptions().map(({ term, text }) => entry(term, text)),
    SIGNALS: [
      entry('SIGTERM, SIGINT', 'End the daemon after what is under way; pods go on. A second one ends it at once.'),
      entry('SIGHUP', 'Read the configuration again, apply what can be applied, and log what needs a restart.'),
    ],
    'EXIT STATUS': [
      plain('0 after an orderly end, 1 after an error, 2 for a command line that it does not understand.'),
    ],
    FILES: [
      entry(DEFAULT_CONFIG_PATH, 'The configuration; see sandboxerd.toml(5). It may be missing.'),
      entry(
        '/etc/default/sandboxerd',
        'SANDBOXERD_OPTIONS, what sandboxerd.service starts it with. It may be missing.',
      ),
      entry('/var/lib/sandboxerd', 'What survives a reboot: the database, checkpoints, images.'),
      entry(
        '/run/sandboxerd',
        'What does not: cri.sock, sandboxer.sock, admin.sock, the state of pods and containers.',
      ),
      entry('/run/netns', 'The network namespaces of pods, as sbx-ID.'),
    ],
    'SEE ALSO': [`${bold('sandboxerctl')}(8), ${bold('sandboxerd.toml')}(5)`],
  })
}

/** sandboxerctl(8). */
export async function ctlPage(): Promise<string> {
  const commands = await Promise.all(
    COMMANDS.map(async ({ name, summary, load }) => ({ name, summary, command: (await load()).command })),
  )
  return page('sandboxerctl', 8, 'look after sandboxerd, the pod sandbox daemon of this node', {
    SYNOPSIS: [`${bold('sandboxerctl')} [\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...`],
    DESCRIPTION: [
      plain(
        'sandboxerctl asks the running daemon over its admin socket, which only root may use. Where the files are enough, it ' +
          'works without a daemon as well.',
      ),
    ],
    OPTIONS: optionEntries({
      ...GLOBAL_OPTIONS,
      version: { type: 'boolean', description: 'print the version, then exit' },
    }),
    COMMANDS: commands.flatMap(({ name, summary, command }) => commandEntries(name, summary, command)),
    'EXIT STATUS': [plain('0; 1 when something failed or is not right; 2 when it was called wrongly.')],
    FILES: [
      entry(DEFAULT_CONFIG_PATH, 'The configuration of the daemon, which says where its sockets and files are.'),
      entry('/run/sandboxerd/admin.sock', 'The admin socket.'),
    ],
    'SEE ALSO': [`${bold('sandboxerd')}(8), ${bold('sandboxerd.toml')}(5), ${bold('crictl')}(1)`],
  })
}

function commandEntries(name: string, summary: string, { usage, description, options }: Command): string[] {
  const paragraphs: string[] = []
  for (const block of description.trim().split('\n\n')) {
    const lines = block.split('\n')
    const words = lines.filter((line) => !line.startsWith(' '))
    const examples = lines.filter((line) => line.startsWith(' '))
    if (words.length > 0) paragraphs.push(paragraph(words.join(' ')))
    if (examples.length > 0) paragraphs.push(verbatim(examples))
  }
  return [
    `.SS ${plain(`${name} ${usage}`.trimEnd())}`,
    plain(`${upperFirst(summary)}.`),
    ...paragraphs,
    ...optionEntries(options),
  ]
}

function optionEntries(options: Options): string[] {
  return Object.entries(options).map(([name, { short, value, description }]) => {
    const long = `--${name}${value === undefined ? '' : ` ${value}`}`
    return entry(short === undefined ? long : `-${short}, ${long}`, description)
  })
}

/** sandboxerd.toml(5). */
export function configPage(): string {
  return page('sandboxerd.toml', 5, 'the configuration of sandboxerd', {
    DESCRIPTION: [
      plain(
        `sandboxerd reads ${DEFAULT_CONFIG_PATH} (TOML) if it exists. Every key may be left out, and has the default that is shown here.`,
      ),
      paragraph('Unknown keys are refused. Paths are absolute. Times are in seconds.'),
      paragraph('sandboxerd --check-config tells all that is wrong with the file, and what this machine lacks for it.'),
    ],
    KEYS: describeConfig().flatMap(sectionEntries),
    'SEE ALSO': [`${bold('sandboxerd')}(8), ${bold('sandboxerctl')}(8)`],
  })
}

function sectionEntries({ name, description, keys, entries }: SectionDescription): string[] {
  const title = name === '' ? 'Before all tables' : `[${entries === undefined ? name : `${name}.NAME`}]`
  const hasEntries = entries !== undefined && Object.keys(entries).length > 0
  return [
    `.SS ${plain(title)}`,
    ...(description === '' ? [] : [plain(description)]),
    ...keys.map(keyEntry),
    ...(hasEntries
      ? [
          paragraph('By default:'),
          verbatim(
            stringify({ [name]: entries })
              .trim()
              .split('\n'),
          ),
        ]
      : []),
  ]
}

function keyEntry({ name, description, byDefault }: KeyDescription): string {
  return entry(byDefault === undefined ? `${name} (must be given)` : assignment(name, byDefault), description)
}

function upperFirst(text: string): string {
  return `${text[0]?.toUpperCase() ?? ''}${text.slice(1)}`
}
