import { parseArgs } from 'node:util'
import { type ConfigOverride, parseOverride } from '../config/override.ts'
import { CodedError, errorMessage } from '../core/errors.ts'

/** What the daemon is told to do. */
export interface DaemonArgs {
  readonly action: 'run' | 'check-config' | 'print-default-config' | 'version' | 'help'
  /** The configuration file; undefined for the default one, which may be missing. */
  readonly configPath: string | undefined
  readonly overrides: readonly ConfigOverride[]
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
  --version                print the version, then exit
  --help                   print this, then exit
`

const ACTIONS = ['help', 'version', 'print-default-config', 'check-config'] as const

const OPTIONS = {
  config: { type: 'string', multiple: true },
  set: { type: 'string', multiple: true },
  'check-config': { type: 'boolean' },
  'print-default-config': { type: 'boolean' },
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
  const action = ACTIONS.find((name) => values[name]) ?? 'run'
  if (action === 'print-default-config') {
    if (values['check-config']) throw new UsageError('--print-default-config and --check-config do not go together')
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

function toOverride(text: string): ConfigOverride {
  try {
    return parseOverride(text)
  } catch (error) {
    throw new UsageError(`--${errorMessage(error)}`, { cause: error })
  }
}
