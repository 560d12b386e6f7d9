import { UsageError } from '../cli/args.ts'
import type { LoadedConfig } from '../config/load.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { AdminClient } from './admin-client.ts'
import { type Asked, findCommand, type GlobalValues, parseCommandArgs } from './args.ts'
import type { Call, Command } from './command.ts'
import { type CommandEntry, COMMANDS } from './commands.ts'
import { commandText, overviewText } from './help.ts'
import { Output, type Sink } from './output.ts'

/** What surrounds the program. */
export interface Surroundings {
  readonly stdout: Sink
  readonly stderr: Sink
  readonly env: Readonly<Record<string, string | undefined>>
  /** Of standard output, when it is a terminal. */
  readonly terminal: (() => { readonly columns: number; readonly rows: number }) | undefined
  /** Aborts with an {@link Interrupted}. */
  readonly signal: AbortSignal
  readonly version: string
  /** Default: {@link COMMANDS}. */
  readonly commands?: readonly CommandEntry[]
}

/** The user has had enough. */
export class Interrupted extends CodedError {
  override readonly name = 'Interrupted'
  /** What the process ends with, as a shell has it. */
  readonly exitCode: number

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super('Canceled', `interrupted by ${signal}`)
    this.exitCode = signal === 'SIGINT' ? 130 : 143
  }
}

/** sandboxerctl: returns what the process ends with. Throws nothing. */
export async function runCtl(argv: readonly string[], around: Surroundings): Promise<number> {
  const { NO_COLOR = '', TERM } = around.env
  const hasTerminal = around.terminal !== undefined
  const output = (json: boolean): Output =>
    new Output(
      {
        json,
        isTerminal: hasTerminal,
        hasColor: hasTerminal && !json && NO_COLOR === '' && TERM !== 'dumb',
        size: () => around.terminal?.(),
      },
      around,
    )
  try {
    return await run(argv, around, output)
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode
    if (around.signal.reason instanceof Interrupted) return around.signal.reason.exitCode
    for (const line of `sandboxerctl: ${errorMessage(error)}`.split('\n')) output(false).note(line)
    return error instanceof UsageError ? error.exitCode : 1
  }
}

async function run(argv: readonly string[], around: Surroundings, output: (json: boolean) => Output): Promise<number> {
  const commands = around.commands ?? COMMANDS
  const asked: Asked = findCommand(argv, commands)
  if (asked.kind === 'version') {
    output(false).line(around.version)
    return 0
  }
  if (asked.kind === 'help') {
    output(false).text(overviewText(commands, asked.group))
    return 0
  }
  const { entry, args } = asked
  const { command } = await entry.load()
  const { global, options, operands } = parseCommandArgs(entry.name, args, command)
  if (global.help) {
    output(false).text(commandText(entry, command))
    return 0
  }
  return command.run(callOf({ options, operands, out: output(global.json) }, global, around))
}

function callOf(
  given: Pick<Call, 'options' | 'operands' | 'out'>,
  { configPath, overrides, socketPath }: GlobalValues,
  { signal }: Surroundings,
): Parameters<Command['run']>[0] {
  let loaded: Promise<LoadedConfig> | undefined
  const config = (): Promise<LoadedConfig> => {
    loaded ??= import('../config/load.ts').then(({ loadConfig }) => loadConfig({ path: configPath, overrides }))
    return loaded
  }
  const admin = async (): Promise<AdminClient> => {
    const client = await import('./admin-client.ts')
    return new client.AdminClient({ socketPath: socketPath ?? (await config()).config.admin.socket, signal })
  }
  return { ...given, signal, configPath, overrides, config, admin }
}
