#!/usr/bin/env node
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseDaemonArgs } from './cli/args.ts'
import { loadConfig } from './config/load.ts'
import { deadline } from './core/deadline.ts'
import { errorMessage } from './core/errors.ts'
import { Daemon } from './daemon/daemon.ts'
import { exitForCertain } from './host/exit.ts'
import { Logs } from './telemetry/logs.ts'

// Ends and removes all pods of this node: what a package runs when it is purged. It takes the options of sandboxerd, and
// leaves what is no pod's: images, database, configuration.

/** All of it, also with plugins that hang. */
const LIMIT_MS = 300_000
/** With opening the database and closing all; what takes longer hangs, and would hang who removes the package. */
const WHOLE_LIMIT_MS = 2 * LIMIT_MS

async function purge(): Promise<number> {
  // Nobody shall ask for new pods meanwhile: the kubelet may be waiting at the usual places.
  const dir = await mkdtemp(join(tmpdir(), 'sandboxerd-'))
  try {
    const own = ['cri', 'sandboxer', 'admin'].map((name) => `--set=${name}.socket=${join(dir, name)}`)
    const quiet = [
      '--set=log.level=error',
      '--set=streaming.port=0',
      '--set=metrics.address=',
      '--set=tracing.endpoint=',
    ]
    const args = parseDaemonArgs([...process.argv.slice(2), ...own, ...quiet])
    const loaded = await loadConfig({ path: args.configPath, overrides: args.overrides })
    process.umask(0o022)
    await using daemon = await Daemon.start(loaded, {
      logs: new Logs(loaded.config.log),
      version: 'purge',
      failpoints: '',
    })
    using limit = deadline('purge', LIMIT_MS)
    const left = await daemon.removeAll(limit.signal)
    for (const { id, why } of left) process.stderr.write(`sandboxerd: ${id} is left: ${why}\n`)
    return left.length === 0 ? 0 : 1
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

setTimeout(() => {
  process.stderr.write('sandboxerd: it does not end, given up\n')
  exitForCertain(1)
}, WHOLE_LIMIT_MS).unref()

let exitCode = 1
try {
  exitCode = await purge()
} catch (error) {
  process.stderr.write(`sandboxerd: ${errorMessage(error)}\n`)
}
exitForCertain(exitCode)
