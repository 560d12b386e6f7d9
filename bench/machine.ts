import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { command, findOnPath } from './process.ts'

/** A network for one of those that are compared: all have the same but for names and addresses. */
export interface BridgeNetwork {
  readonly name: string
  readonly plugin: Readonly<Record<string, unknown>>
  readonly ipamDir: string
}

/** What the bench makes on the machine beside pods: a directory, bridges and a cgroup, gone when it is disposed of. */
export class Machine implements AsyncDisposable {
  readonly dir = mkdtempSync('/tmp/sbx-bench.')
  /** Made beforehand, as the kubelet does, so that nobody has to pay for it. */
  readonly cgroupParent = `/sbx-bench-${process.pid}`
  readonly #bridges: string[] = []

  constructor() {
    writeFileSync(this.registriesConf, '')
    for (const root of cgroupRoots()) mkdirSync(join(root, this.cgroupParent))
  }

  /** Where daemons are told of registries: containers-registries.conf(5). */
  get registriesConf(): string {
    return join(this.dir, 'registries.conf')
  }

  /** Lets daemons pull from a registry without TLS. */
  allowRegistry(address: string): void {
    writeFileSync(this.registriesConf, `[[registry]]\nlocation = "${address}"\ninsecure = true\n`)
  }

  network(masquerade: boolean): BridgeNetwork {
    const number = this.#bridges.length
    const bridge = `sbxb${process.pid}n${number}`
    this.#bridges.push(bridge)
    // Two benches at a time hardly ever have the same subnets, and never the same bridges.
    const subnet = `10.${192 + (process.pid % 16)}.${number * 8}.0/21`
    const ipamDir = join(this.dir, 'ipam')
    const ipam = { type: 'host-local', dataDir: ipamDir, ranges: [[{ subnet }]], routes: [{ dst: '0.0.0.0/0' }] }
    return {
      name: bridge,
      plugin: { type: 'bridge', bridge, isGateway: true, ipMasq: masquerade, hairpinMode: true, ipam },
      ipamDir: join(ipamDir, bridge),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bridge of this.#bridges) await command('ip', ['link', 'delete', bridge]).catch(() => undefined)
    for (const root of cgroupRoots()) {
      try {
        rmdirSync(join(root, this.cgroupParent))
      } catch (error) {
        console.error(`bench: ${join(root, this.cgroupParent)} is left: ${String(error)}`)
      }
    }
    const mounts = mountPoints().filter((path) => path.startsWith(`${this.dir}/`))
    if (mounts.length > 0) {
      console.error(`bench: ${this.dir} is left, it still has mounts: ${mounts.join(' ')}`)
      return
    }
    // Made by us under a name of our own, and nothing is mounted in it.
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** Writes a network into a directory for CNI configurations, as its only one. */
export function writeNetwork(confDir: string, network: BridgeNetwork): void {
  mkdirSync(confDir, { recursive: true })
  const conflist = { cniVersion: '1.0.0', name: network.name, plugins: [network.plugin] }
  writeFileSync(join(confDir, '10-bench.conflist'), JSON.stringify(conflist))
}

/** What the numbers depend on. */
export async function describeMachine(programs: readonly string[]): Promise<string[]> {
  const [cpu] = cpus()
  const gib = (totalmem() / 2 ** 30).toFixed(0)
  const versions = await Promise.all(
    programs.map(async (program) => {
      const text = await command(program, ['--version'], { output: true }).catch(() => '')
      return `${program}: ${text.split('\n')[0] || 'version unknown'}`
    }),
  )
  return [
    `${cpus().length} × ${cpu?.model.trim() ?? 'unknown CPU'}, ${gib} GiB, Linux ${release()}, Node ${process.version}`,
    ...versions,
    ...(findOnPath('iptables')
      ? [await command('iptables', ['--version'], { output: true })].map((t) => t.trim())
      : []),
  ]
}

function mountPoints(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return lines.flatMap((line) => line.split(' ')[4] ?? [])
}

function cgroupRoots(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  const mounts = lines.filter((line) => / - cgroup2? /.test(line))
  return [...new Set(mounts.flatMap((line) => line.split(' ')[4] ?? []))]
}
