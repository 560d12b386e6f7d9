import { parseArgs } from 'node:util'
import { type ConfigOverride, parseOverride } from '../config/override.ts'
import { CodedError, errorMessage } from '../core/errors.ts'

/** What the daemon is told to do. */
export interface DaemonArgs {
  readonly action: (typeof ACTIONS)[number] | 'run'
  /** The configuration file; undefined for the default one, which may be missing. */
  readonly configPath: string | undefined
  readonly overrides: readonly ConfigOverride[]
  /** For `prepare-downgrade`: the version of the schema to go back to. */
  readonly schema?: number
}

/** A command line that cannot be understood. The message is for the one who typed it. */
export class UsageError extends CodedError {
  override readonly name = 'UsageError'
  /** What the process ends with. */
  readonly exitCode = 2

  constructor(message: string, options?: { cause?: unknown }) {
    super('InvalidArgument', message, options)
  }
}

/** What `--help` prints. */
export const DAEMON_USAGE = `Usage: sandboxerd [OPTION]...
The pod sandbox daemon of a Kubernetes node.

  --config PATH            read PATH; it must exist (default: /etc/sandboxerd/config.toml
                           if it exists, else the embedded defaults)
  --set KEY=VALUE          set one key over the file, as --set log.level=debug or
                           --set 'cni.bin_dirs=["/opt/cni/bin"]'; may be repeated
  --check-config           check the configuration and whether this machine fits it, then exit
  --print-default-config   print the embedded defaults as a configuration file, then exit
  --prepare-downgrade N    bring the database down to schema version N, for an older sandboxerd that is
                           to be installed, then exit; no sandboxerd may run (pods may)
  --version                print the version, then exit
  --help                   print this, then exit
`

const ACTIONS = ['help', 'version', 'print-default-config', 'check-config', 'prepare-downgrade'] as const

const OPTIONS = {
  config: { type: 'string', multiple: true },
  set: { type: 'string', multiple: true },
  'check-config': { type: 'boolean' },
  'print-default-config': { type: 'boolean' },
  'prepare-downgrade': { type: 'string' },
  version: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

/**
 * Reads the arguments of the daemon (`process.argv` without the first two).
 * `--help` and `--version` win over all others, as people expect of them.
 *
 * @throws UsageError for anything it does not know or that does not go together.
 */
export function parseDaemonArgs(argv: readonly string[]): DaemonArgs {
  const values = parseValues(argv)
  const [configPath, ...furtherPaths] = values.config ?? []
  if (furtherPaths.length > 0) throw new UsageError('--config may be given only once')
  if (configPath === '') throw new UsageError('--config must name a file')
  const overrides = (values.set ?? []).map(toOverride)
  const action = ACTIONS.find((name) => values[name] !== undefined) ?? 'run'
  const asked = ACTIONS.slice(2).filter((name) => values[name] !== undefined)
  if (action === asked[0] && asked[1] !== undefined) {
    throw new UsageError(`--${asked[0]} and --${asked[1]} do not go together`)
  }
  if (action === 'prepare-downgrade') {
    return { action, configPath, overrides, schema: toSchema(values['prepare-downgrade']) }
  }
  if (action === 'print-default-config') {
    if (configPath !== undefined || overrides.length > 0) {
      throw new UsageError('--print-default-config takes neither --config nor --set: it prints the embedded defaults')
    }
  }
  return { action, configPath, overrides }
}

function parseValues(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, strict: true, allowPositionals: false }).values
  } catch (error) {
    // The sentences that Node adds explain its own conventions, not ours.
    const why = errorMessage(error).split(/\. (?:To specify|Did you forget)/, 1)[0]
    throw new UsageError((why ?? '').replaceAll(/\s*\n\s*/g, ' '), { cause: error })
  }
}

function toSchema(text = ''): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text)
  throw new UsageError('--prepare-downgrade must be the version of a schema: a whole number from 1 on')
}

function toOverride(text: string): ConfigOverride {
  try {
    return parseOverride(text)
  } catch (error) {
    throw new UsageError(`--${errorMessage(error)}`, { cause: error })
  }
}
