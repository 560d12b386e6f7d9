#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { DAEMON_USAGE, parseDaemonArgs, UsageError } from './cli/args.ts'
import { checkHost } from './config/check-host.ts'
import { defaultConfigToml } from './config/default-toml.ts'
import { loadConfig } from './config/load.ts'
import { errorMessage } from './core/errors.ts'
import { Daemon } from './daemon/daemon.ts'
import { createLogger } from './telemetry/logger.ts'

// The entry of sandboxerd.

async function main(): Promise<number> {
  const args = parseDaemonArgs(process.argv.slice(2))
  switch (args.action) {
    case 'help':
      process.stdout.write(DAEMON_USAGE)
      return 0
    case 'version':
      process.stdout.write(`${version()}\n`)
      return 0
    case 'print-default-config':
      process.stdout.write(defaultConfigToml())
      return 0
    case 'check-config': {
      const { config, file } = await loadConfig({ path: args.configPath, overrides: args.overrides })
      const problems = await checkHost(config)
      for (const problem of problems) process.stderr.write(`${problem}\n`)
      if (problems.length === 0) process.stdout.write(`${file ?? 'embedded defaults'}: ok\n`)
      return problems.length === 0 ? 0 : 1
    }
    case 'run':
      return runDaemon(args.configPath, args.overrides)
  }
}

async function runDaemon(
  configPath: string | undefined,
  overrides: ReturnType<typeof parseDaemonArgs>['overrides'],
): Promise<number> {
  const { config, file } = await loadConfig({ path: configPath, overrides })
  const logger = createLogger(config.log)
  // What we make has the modes that we say; a caller's umask shall not change them.
  process.umask(0o022)
  const stop = stopSignal()
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, 'unexpected error: the next start recovers')
    process.exit(1)
  })
  logger.info({ version: version(), config: file ?? 'embedded defaults', pid: process.pid }, 'starting')
  const failpoints = process.env['SANDBOXERD_FAILPOINTS'] ?? ''
  const daemon = await Daemon.start(config, { logger, version: version(), failpoints })
  const signal = await stop
  logger.info({ signal }, 'stopping; pods go on')
  await daemon[Symbol.asyncDispose]()
  // A thread that is stuck in the kernel does not keep us.
  process.exit(0)
}

/** Resolves with the first signal that asks us to stop; the second ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (asked) process.exit(1)
        asked = true
        resolve(name)
      })
    }
  })
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`sandboxerd: ${errorMessage(error)}\n`)
  process.exitCode = error instanceof UsageError ? error.exitCode : 1
}
