import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type BridgeNetwork, type Machine, writeNetwork } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { Daemon } from './process.ts'
import { type Server, serve } from './server.ts'

/**
 * Starts sandboxerd with everything of its own in the directory of the bench.
 * @param build the main.js to run. @param prefix what the names of its subjects begin with.
 */
export async function startSandboxerd(
  options: BenchOptions,
  machine: Machine,
  network: BridgeNetwork,
  { build = resolve('dist/main.js'), prefix = '' } = {},
): Promise<Server> {
  const dir = join(machine.dir, `sandboxerd-${network.name}`)
  const socket = join(dir, 'cri.sock')
  const confDir = join(dir, 'net.d')
  writeNetwork(confDir, network)
  mkdirSync(join(dir, 'netns'), { recursive: true })
  const config = join(dir, 'config.toml')
  writeFileSync(config, configToml(dir, socket, confDir, machine, options))
  const args = [...options.nodeArgs, build, '--config', config]
  const daemon = new Daemon({ file: process.execPath, args, logFile: join(dir, 'log') })
  return serve(`${prefix}sandboxerd`, daemon, socket, machine, [
    { name: `${prefix}shim`, handler: 'shim', pidPerContainer: false },
    { name: `${prefix}pinned`, handler: 'pinned', pidPerContainer: true },
  ])
}

function configToml(dir: string, socket: string, confDir: string, machine: Machine, options: BenchOptions): string {
  const runtime = JSON.stringify(options.runtime)
  // A JSON string is a TOML string, too.
  return `root = ${JSON.stringify(join(dir, 'root'))}
state = ${JSON.stringify(join(dir, 'state'))}
netns_dir = ${JSON.stringify(join(dir, 'netns'))}
default_runtime_handler = "shim"
[cri]
socket = ${JSON.stringify(socket)}
[sandboxer]
socket = ${JSON.stringify(join(dir, 'sandboxer.sock'))}
[runtimes.shim]
runtime = ${runtime}
[runtimes.pinned]
runtime = ${runtime}
sandboxer = "pinned"
[cni]
conf_dir = ${JSON.stringify(confDir)}
bin_dirs = [${JSON.stringify(options.pluginDir)}]
[pause]
binary = ${JSON.stringify(options.pause)}
[conmon]
path = ${JSON.stringify(options.conmon)}
[images]
registries_conf = ${JSON.stringify(machine.registriesConf)}
`
}
