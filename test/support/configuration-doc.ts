import { stringify } from 'smol-toml'
import { assignment } from '../../src/config/default-toml.ts'
import { DEFAULT_CONFIG_PATH } from '../../src/config/load.ts'
import { describeConfig, type KeyDescription, type SectionDescription } from '../../src/config/describe.ts'

const INTRODUCTION = `<!-- Made from src/config/schema.ts by test/unit/config/default-toml.test.ts: vitest -u writes it anew. -->

# Configuration

sandboxerd reads \`${DEFAULT_CONFIG_PATH}\` (TOML) if it exists, or the file that \`--config\` names, which must
exist. Every key may be left out. \`--set key.path=value\` sets one key over the file, as if the line stood in it.

- \`sandboxerd --print-default-config\` prints a file with all defaults, each key explained.
- \`sandboxerctl config print\` prints what a daemon that is started now would use.
- \`sandboxerd --check-config\`, or \`sandboxerctl config check\`, reports everything that is wrong with the file, each
  problem with its key, and whether this machine has what the file asks for.

A reload (\`systemctl reload sandboxerd\`, \`sandboxerctl reload\`, SIGHUP) reads the file again and applies the keys that
are marked with ↻; a remote sandboxer is added when it is new, and a handler of \`[runtimes]\` is added, changed or
removed unless \`default_runtime_handler\` has changed, too. It reads anew the network configurations and the TLS files of
streaming, and tells, also in \`systemctl status\`, which other keys have changed and need a restart, which costs no pod
anything. A file that cannot be used changes nothing.

Unknown keys are refused. Paths are absolute and normalized; the path of a socket has at most 107 bytes. Times are in
seconds and may have fractions, sizes are in bytes. What does not go together is refused as well: \`root\` inside \`state\`
(which ends with a reboot), \`root\` or \`state\` inside \`netns_dir\`, \`checkpoint_key_file\` inside \`state\`, one socket for
two servers, a default handler that is not there, a handler whose sandboxer is not there, a \`runtime_root\` that two
different runtimes share, streaming at an address that is not loopback without TLS.
`

/** The text of docs/configuration.md. */
export function configurationDoc(): string {
  return [INTRODUCTION, ...describeConfig().map(section)].join('\n')
}

function section({ name, description, keys, entries }: SectionDescription): string {
  const title = name === '' ? 'Before all tables' : `\`[${entries === undefined ? name : `${name}.NAME`}]\``
  const rows = keys.map(
    (key) => `| \`${key.name}\` | ${defaultText(key)} | ${cell(key.description)}${key.isReloaded ? ' ↻' : ''} |`,
  )
  const table = ['| key | default | meaning |', '|---|---|---|', ...rows].join('\n')
  const hasEntries = entries !== undefined && Object.keys(entries).length > 0
  const defaults = hasEntries
    ? `By default:\n\n\`\`\`toml\n${stringify({ [name]: entries }).trim()}\n\`\`\`\n`
    : undefined
  const intro = description === '' ? undefined : `${description}\n`
  return [`## ${title}\n`, intro, `${table}\n`, defaults].filter((part) => part !== undefined).join('\n')
}

function defaultText({ byDefault }: KeyDescription): string {
  return byDefault === undefined ? 'none' : `\`${assignment('v', byDefault).slice('v = '.length)}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
}
