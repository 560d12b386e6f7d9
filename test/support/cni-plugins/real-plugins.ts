import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runOk } from '../../../src/host/programs/run.ts'

const PLUGIN_DIR = '/usr/lib/cni'
const PLUGINS = ['bridge', 'host-local', 'portmap']

/** Why tests with real plugins cannot run here; `''` when they can. */
export function whyNoRealPlugins(): string {
  if (process.getuid?.() !== 0) return 'not root'
  const missing = PLUGINS.filter((plugin) => !existsSync(join(PLUGIN_DIR, plugin)))
  return missing.length === 0 ? '' : `no ${missing.join(', ')} in ${PLUGIN_DIR}`
}

const ip = async (...args: string[]): Promise<string> => (await runOk('ip', args, { timeoutMs: 10_000 })).stdout

let count = 0

/**
 * A node with a network of its own: real plugins that work in a network namespace made for the test, so that bridges
 * and firewall rules never touch the machine's.
 */
export class TestNode implements AsyncDisposable {
  readonly dir: string
  readonly #netns: string
  readonly #pods: string[] = []

  private constructor(dir: string, netns: string) {
    this.dir = dir
    this.#netns = netns
  }

  static async make(): Promise<TestNode> {
    const dir = await mkdtemp(join(tmpdir(), 'sbx-cni-node-'))
    const node = new TestNode(dir, `sbxnode-${process.pid}-${count++}`)
    await ip('netns', 'add', node.#netns)
    await ip('-n', node.#netns, 'link', 'set', 'lo', 'up')
    for (const name of ['bin', 'conf', 'ipam']) await mkdir(join(dir, name))
    for (const plugin of PLUGINS) {
      const path = join(node.binDir, plugin)
      await writeFile(path, `#!/bin/sh\nexec nsenter --net=/run/netns/${node.#netns} ${PLUGIN_DIR}/${plugin}\n`)
      await chmod(path, 0o755)
    }
    return node
  }

  get binDir(): string {
    return join(this.dir, 'bin')
  }

  get confDir(): string {
    return join(this.dir, 'conf')
  }

  /** A network on a bridge with host-local addresses, and what may follow in the chain. */
  async configure(
    file: string,
    name: string,
    options: { bridge?: object; more?: object[]; version?: string } = {},
  ): Promise<void> {
    const ranges = [[{ subnet: '10.123.7.0/24' }], [{ subnet: 'fd00:123:7::/64' }]]
    const bridge = {
      type: 'bridge',
      bridge: `br-${name}`,
      isGateway: true,
      ipam: { type: 'host-local', dataDir: join(this.dir, 'ipam'), ranges, routes: [{ dst: '0.0.0.0/0' }] },
      ...options.bridge,
    }
    const config = { cniVersion: options.version ?? '1.0.0', name, plugins: [bridge, ...(options.more ?? [])] }
    await writeFile(join(this.confDir, file), JSON.stringify(config))
  }

  /** A network namespace for a pod; its path. */
  async addPod(): Promise<string> {
    const name = `sbxpod-${process.pid}-${count++}`
    await ip('netns', 'add', name)
    this.#pods.push(name)
    return `/run/netns/${name}`
  }

  async deletePod(netnsPath: string): Promise<void> {
    const name = netnsPath.slice('/run/netns/'.length)
    this.#pods.splice(this.#pods.indexOf(name), 1)
    await ip('netns', 'delete', name)
  }

  /** The addresses of an interface of a pod, global ones only. */
  async podAddresses(netnsPath: string, ifName: string): Promise<string[]> {
    const out = await ip(
      '-n',
      netnsPath.slice('/run/netns/'.length),
      '-o',
      'addr',
      'show',
      'dev',
      ifName,
      'scope',
      'global',
    )
    return [...out.matchAll(/inet6? ([^/ ]+)/g)].map((match) => match[1] ?? '')
  }

  /** The veth interfaces on the node. */
  async veths(): Promise<string[]> {
    const out = await ip('-n', this.#netns, '-o', 'link', 'show', 'type', 'veth')
    return out.split('\n').filter((line) => line !== '')
  }

  /** The addresses that host-local has given away in a network. */
  async reservedIps(network: string): Promise<string[]> {
    const names = await readdir(join(this.dir, 'ipam', network)).catch(() => [])
    return names.filter((name) => name.startsWith('10.') || name.startsWith('fd00')).sort()
  }

  /** The NAT rules of the node that carry `text`. */
  async natRules(text: string): Promise<string[]> {
    const args = [`--net=/run/netns/${this.#netns}`, 'iptables', '-t', 'nat', '-S']
    const { stdout } = await runOk('nsenter', args, { timeoutMs: 10_000 })
    return stdout.split('\n').filter((line) => line.includes(text))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#pods, this.#netns]) await ip('netns', 'delete', name)
    await rm(this.dir, { recursive: true })
  }
}
