import { mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { type BridgeNetwork, type Machine, writeNetwork } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { Daemon } from './process.ts'
import { type Server, serve } from './server.ts'

/** Where a sandboxerd has what it owns. */
export function sandboxerdDir(machine: Machine, network: BridgeNetwork): string {
  return join(machine.dir, `sandboxerd-${network.name}`)
}

/** Where it serves the sandboxer API, by its directory. */
export function sandboxerSocket(dir: string): string {
  return join(dir, 'sandboxer.sock')
}

export interface SandboxerdExtras {
  /** The main.js to run. */
  readonly build?: string
  /** What the names of its subjects begin with. */
  readonly prefix?: string
  /** The socket of another one, where the handler `remote` has its pods. It is a subject then, as is `shim-v2`. */
  readonly remote?: string
  /** More of its table `sandboxer`. */
  readonly sandboxer?: Readonly<Record<string, string>>
}

/** Starts sandboxerd with everything of its own in the directory of the bench. */
export async function startSandboxerd(
  options: BenchOptions,
  machine: Machine,
  network: BridgeNetwork,
  { build = resolve('dist/main.js'), prefix = '', remote = '', sandboxer = {} }: SandboxerdExtras = {},
): Promise<Server> {
  const dir = sandboxerdDir(machine, network)
  const socket = join(dir, 'cri.sock')
  const confDir = join(dir, 'net.d')
  writeNetwork(confDir, network)
  mkdirSync(join(dir, 'netns'), { recursive: true })
  const config = join(dir, 'config.toml')
  const remoteToml = remote === '' ? '' : remoteTables(options, remote)
  writeFileSync(config, configToml(dir, socket, confDir, machine, options, sandboxer) + remoteToml)
  const args = [...options.nodeArgs, build, '--config', config]
  // The shims are those that came with containerd, if there is one.
  const path = [...(options.containerd === '' ? [] : [dirname(options.containerd)]), process.env['PATH']].join(
    delimiter,
  )
  const daemon = new Daemon({ file: process.execPath, args, logFile: join(dir, 'log'), path })
  return serve(`${prefix}sandboxerd`, daemon, socket, machine, [
    { name: `${prefix}shim`, handler: 'shim', pidPerContainer: false },
    { name: `${prefix}pinned`, handler: 'pinned', pidPerContainer: true },
    ...(remote === '' ? [] : ['remote', 'shim-v2']).map((handler) => ({
      name: prefix + handler,
      handler,
      pidPerContainer: false,
    })),
  ])
}

function remoteTables(options: BenchOptions, address: string): string {
  return `[sandboxers.other]
address = ${JSON.stringify(address)}
network_first = false
[runtimes.remote]
runtime = ${JSON.stringify(options.runtime)}
runtime_type = "io.containerd.runc.v2"
sandboxer = "other"
[runtimes.shim-v2]
runtime = ${JSON.stringify(options.runtime)}
runtime_type = "io.containerd.runc.v2"
`
}

function configToml(
  dir: string,
  socket: string,
  confDir: string,
  machine: Machine,
  options: BenchOptions,
  sandboxer: Readonly<Record<string, string>>,
): string {
  const runtime = JSON.stringify(options.runtime)
  const more = Object.entries(sandboxer).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
  // A JSON string is a TOML string, too.
  return `root = ${JSON.stringify(join(dir, 'root'))}
state = ${JSON.stringify(join(dir, 'state'))}
netns_dir = ${JSON.stringify(join(dir, 'netns'))}
default_runtime_handler = "shim"
[cri]
socket = ${JSON.stringify(socket)}
[sandboxer]
socket = ${JSON.stringify(sandboxerSocket(dir))}
${more.join('')}[runtimes.shim]
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
