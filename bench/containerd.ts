import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BridgeNetwork, type Machine, writeNetwork } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { pauseImage } from './pause-image.ts'
import { command, Daemon } from './process.ts'
import { type Server, serve } from './server.ts'

const PAUSE_IMAGE = 'localhost/bench/pause:1'
const START_MS = 30_000

/** Where a containerd has what it owns. */
export function containerdDir(machine: Machine, network: BridgeNetwork): string {
  return join(machine.dir, `containerd-${network.name}`)
}

/**
 * Starts a containerd with everything of its own in the directory of the bench, and the same pause program as we have.
 * @param sandboxer the socket of one that it is to have besides its own, as the subject `sandboxer`.
 */
export async function startContainerd(
  options: BenchOptions,
  machine: Machine,
  network: BridgeNetwork,
  sandboxer = '',
): Promise<Server> {
  const dir = containerdDir(machine, network)
  const socket = join(dir, 'containerd.sock')
  const confDir = join(dir, 'net.d')
  writeNetwork(confDir, network)
  mkdirSync(join(dir, 'opt'), { recursive: true })
  const config = join(dir, 'config.toml')
  writeFileSync(
    config,
    configToml(dir, socket, confDir, options) + (sandboxer === '' ? '' : sandboxerToml(dir, sandboxer, options)),
  )
  // Its shim and ctr are those that came with it.
  const bin = dirname(options.containerd)
  const path = `${bin}:${process.env['PATH'] ?? ''}`
  const ctr = existsSync(join(bin, 'ctr')) ? join(bin, 'ctr') : 'ctr'
  const daemon = new Daemon({ file: options.containerd, args: ['-c', config], logFile: join(dir, 'log'), path })
  await importPause(daemon, ctr, socket, dir, options.pause)
  const remote = { name: 'containerd + sandboxerd', handler: 'remote', pidPerContainer: false }
  return serve('containerd', daemon, socket, machine, [
    { name: 'containerd', handler: 'oci', pidPerContainer: false },
    ...(sandboxer === '' ? [] : [remote]),
  ])
}

/** Older ones look for the pause image when they start, so that it has to be there by then. */
async function importPause(daemon: Daemon, ctr: string, socket: string, dir: string, pause: string): Promise<void> {
  const image = await pauseImage(join(dir, 'pause'), pause, PAUSE_IMAGE)
  await daemon.start()
  try {
    const end = performance.now() + START_MS
    for (;;) {
      try {
        await command(ctr, ['-a', socket, '-n', 'k8s.io', 'images', 'import', image], { output: true })
        return
      } catch (error) {
        if (performance.now() > end) throw new Error(`${String(error)}: ${daemon.logTail()}`, { cause: error })
        await sleep(200)
      }
    }
  } finally {
    await daemon.end('SIGTERM')
  }
}

/** Version 2, which containerd 1.6 reads and 2.x migrates. */
function configToml(dir: string, socket: string, confDir: string, options: BenchOptions): string {
  const quoted = (text: string): string => JSON.stringify(text)
  return `version = 2
root = ${quoted(join(dir, 'root'))}
state = ${quoted(join(dir, 'state'))}
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.nri.v1.nri"]
[grpc]
address = ${quoted(socket)}
[ttrpc]
address = ${quoted(`${socket}.ttrpc`)}
[plugins."io.containerd.internal.v1.opt"]
path = ${quoted(join(dir, 'opt'))}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = ${quoted(PAUSE_IMAGE)}
disable_apparmor = true
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = ${quoted(options.pluginDir)}
conf_dir = ${quoted(confDir)}
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "oci"
snapshotter = "overlayfs"
${runtimeToml('oci', dir, options)}`
}

function sandboxerToml(dir: string, socket: string, options: BenchOptions): string {
  return `${runtimeToml('remote', dir, options, 'sandboxer = "sandboxerd"')}
[proxy_plugins.sandboxerd]
type = "sandbox"
address = ${JSON.stringify(socket)}
`
}

function runtimeToml(name: string, dir: string, options: BenchOptions, more = ''): string {
  const table = `plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${name}`
  return `[${table}]
runtime_type = "io.containerd.runc.v2"
${more}
[${table}.options]
BinaryName = ${JSON.stringify(options.containerdRuntime)}
Root = ${JSON.stringify(join(dir, 'runtime'))}
SystemdCgroup = false
`
}
