#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { DAEMON_USAGE, parseDaemonArgs, UsageError } from './cli/args.ts'
import { checkHost } from './config/check-host.ts'
import { defaultConfigToml } from './config/default-toml.ts'
import { type LoadedConfig, loadConfig } from './config/load.ts'
import { sleep } from './core/deadline.ts'
import { errorMessage } from './core/errors.ts'
import { Daemon } from './daemon/daemon.ts'
import { LoopWatch } from './daemon/service/loop-watch.ts'
import { ServiceState } from './daemon/service/service-state.ts'
import { exitForCertain } from './host/exit.ts'
import { takeServiceEnvironment } from './host/systemd/service-environment.ts'
import { openNotifySocket } from './host/systemd/sockets.ts'
import { Logs } from './telemetry/logs.ts'

// The entry of sandboxerd.

/**
 * How long a daemon that is to stop may still start. To open a database may take half an hour: that is broken off as a kill
 * would, and the next start recovers.
 */
const START_GRACE_MS = 5000

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
    case 'prepare-downgrade': {
      // SQLite, which it works with on this thread, is loaded by a daemon on the store's alone.
      const { runPrepareDowngrade } = await import('./daemon/offline/prepare-downgrade.ts')
      const { config } = await loadConfig({ path: args.configPath, overrides: args.overrides })
      process.stdout.write(`${runPrepareDowngrade(config, args.schema ?? 0)}\n`)
      return 0
    }
    case 'run':
      return runDaemon(args.configPath, args.overrides)
  }
}

async function runDaemon(
  configPath: string | undefined,
  overrides: ReturnType<typeof parseDaemonArgs>['overrides'],
): Promise<number> {
  const { notifySocket, watchdogMs, sockets } = takeServiceEnvironment(process.env, process.pid)
  const load = (): Promise<LoadedConfig> => loadConfig({ path: configPath, overrides })
  const loaded = await load()
  const { config, file } = loaded
  const logs = new Logs(config.log)
  const logger = logs.of('daemon')
  // What we make has the modes that we say; a caller's umask shall not change them.
  process.umask(0o022)
  const stop = stopSignal()
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, 'unexpected error: the next start recovers')
    exitForCertain(1)
  })
  logger.info({ version: version(), config: file ?? 'embedded defaults', pid: process.pid }, 'starting')
  const failpoints = process.env['SANDBOXERD_FAILPOINTS'] ?? ''
  const notify = notifySocket === undefined ? undefined : openNotifySocket(notifySocket)
  using service = new ServiceState({ notify, logger })
  using _watch = new LoopWatch({ watchdogMs }, { ping: () => service.ping(), logger })
  const hangups = hangupSignals()
  const starting = Daemon.start(loaded, { logs, version: version(), failpoints, sockets, service, load })
  const daemon = await Promise.race([starting, stop.then(() => sleep(START_GRACE_MS))])
  if (!daemon) {
    logger.info({ signal: await stop }, 'stopped while it was starting')
    return exitForCertain(0)
  }
  service.ready(() => daemon.describe())
  // Why it failed is in the log already.
  hangups.handle(() => void daemon.reload().catch(() => undefined))
  const signal = await stop
  logger.info({ signal }, 'stopping; pods go on')
  setTimeout(() => {
    logger.error('not everything could be closed in time: ended as it is, and the next start recovers')
    exitForCertain(1)
  }, daemon.stopLimitMs).unref()
  await daemon[Symbol.asyncDispose]()
  return exitForCertain(0)
}

/** Resolves with the first signal that asks us to stop; the second ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (asked) exitForCertain(1)
        asked = true
        resolve(name)
      })
    }
  })
}

/** Keeps SIGHUP from ending us from now on; one that comes before there is a handler is handled then. */
function hangupSignals(): { handle(handler: () => void): void } {
  let handler: (() => void) | undefined
  let isWaiting = false
  process.on('SIGHUP', () => {
    isWaiting = true
    handler?.()
  })
  return {
    handle: (given) => {
      handler = given
      if (isWaiting) given()
    },
  }
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`sandboxerd: ${errorMessage(error)}\n`)
  exitForCertain(error instanceof UsageError ? error.exitCode : 1)
}
