import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { commandLine, listPids } from '../../src/host/process.ts'
import { cgroupMounts } from '../../src/host/cgroup/cgroup.ts'
import { runOk } from '../../src/host/programs/run.ts'
import { slowed } from './slowness.ts'

/** What a daemon under test may leave something on. */
export interface Traces {
  /** Everything that the daemon owns lies below. */
  readonly dir: string
  /** The network namespace that stands for its node. */
  readonly node: string
  /** The cgroup below which the test's pods lie, unless they ask for another. */
  readonly cgroupParent: string
  /** Sandbox ids that are known to have been made: nothing may carry them. */
  readonly ids: readonly string[]
  /** Pids that may know the directory: the daemon's own. */
  readonly daemons: readonly number[]
}

/** What was there before any pod. */
export interface MachineSnapshot {
  readonly links: ReadonlySet<string>
}

/** The containerd namespace in which we have our shims. */
export const SHIM_NAMESPACE = 'k8s.io'
/** PID 1 here reaps orphans after 1–2 s; what takes longer than this is left for good. */
const PATIENCE_MS = slowed(8000)

export async function snapshot(node: string): Promise<MachineSnapshot> {
  return { links: new Set(await links(node)) }
}

/** Everything that is still there of the pods of a daemon, each as one line for people. Empty is what tests want. */
async function leftovers(traces: Traces, before: MachineSnapshot): Promise<string[]> {
  const { dir } = traces
  return [
    ...mounts(dir).map((path) => `mount ${path}`),
    ...(await names(join(dir, 'netns'))).map((name) => `netns ${name}`),
    ...(await links(traces.node)).filter((name) => !before.links.has(name)).map((name) => `interface ${name}`),
    ...(await reservedIps(dir)).map((ip) => `address ${ip}`),
    ...(await natRules(traces)).map((rule) => `nat rule ${rule}`),
    ...processes(traces).map(({ pid, what }) => `process ${pid} ${what}`),
    ...cgroups(traces).map((path) => `cgroup ${path}`),
    ...shimFiles(traces).map((path) => `file of a shim ${path}`),
    ...rows(join(dir, 'root', 'sandboxerd.db')).map((row) => `row ${row}`),
    ...(await files(dir)).map((path) => `file ${path}`),
  ]
}

/** Waits for everything to be gone that goes by itself; returns what is left then. */
export async function settledLeftovers(traces: Traces, before: MachineSnapshot): Promise<string[]> {
  const end = performance.now() + PATIENCE_MS
  for (;;) {
    const left = await leftovers(traces, before)
    if (left.length === 0 || performance.now() > end) return left
    await sleep(100)
  }
}

/** The mount points below a directory. */
export function mounts(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${dir}/`))
    .filter((path) => path !== join(dir, 'root') && path !== join(dir, 'state'))
}

/** The processes of pods: monitors and runtimes that name the directory, and whatever is in the pods' cgroups. */
export function processes({ dir, cgroupParent, ids, daemons }: Traces): { pid: number; what: string }[] {
  return listPids().flatMap((pid) => {
    if (pid === process.pid || daemons.includes(pid)) return []
    // A zombie has neither a command line nor a cgroup of its own.
    const args = commandLine(pid)
    if (args.some((arg) => arg.startsWith(`${dir}/`) || arg.includes(`=${dir}/`))) {
      return [{ pid, what: args.slice(0, 4).join(' ') }]
    }
    const cgroup = readText(`/proc/${pid}/cgroup`)
    const isOurs = cgroup.includes(`:${cgroupParent}/`) || ids.some((id) => cgroup.includes(id))
    return isOurs ? [{ pid, what: `${args.join(' ')} in a cgroup of ours` }] : []
  })
}

/** The cgroups of pods, over all hierarchies; parents that were made for them count, too. */
export function cgroups({ cgroupParent, ids }: Traces): string[] {
  return cgroupMounts().flatMap((mount) => {
    const parent = join(mount, cgroupParent)
    const below = exists(parent) ? [parent, ...directoriesBelow(parent)] : []
    const others = directoriesBelow(join(mount, 'sandboxerd')).filter((path) => ids.some((id) => path.includes(id)))
    // Slices without a pod's scope are systemd's.
    return [...below, ...others].filter((path) => !path.endsWith('.slice'))
  })
}

/** The addresses that host-local has given away. */
export async function reservedIps(dir: string): Promise<string[]> {
  const networks = await names(join(dir, 'ipam'))
  const lists = await Promise.all(networks.map((network) => names(join(dir, 'ipam', network))))
  return lists.flat().filter((name) => /^[0-9a-f]+[.:]/.test(name))
}

/** The interfaces of a node, but for the bridges, which plugins keep. */
async function links(node: string): Promise<string[]> {
  const { stdout } = await runOk('ip', ['-n', node, '-json', '-details', 'link', 'show'], { timeoutMs: slowed(10_000) })
  const all = JSON.parse(stdout) as { ifname: string; linkinfo?: { info_kind?: string } }[]
  return all.filter(({ linkinfo }) => linkinfo?.info_kind !== 'bridge').map(({ ifname }) => ifname)
}

/** Rules that carry the id of a sandbox, as the portmap plugin writes them. */
async function natRules({ node, ids }: Traces): Promise<string[]> {
  if (ids.length === 0) return []
  const args = [`--net=/run/netns/${node}`, 'iptables-save', '-t', 'nat']
  const { stdout } = await runOk('/usr/bin/nsenter', args, { timeoutMs: slowed(10_000) }).catch(() => ({ stdout: '' }))
  return stdout.split('\n').filter((line) => ids.some((id) => line.includes(id)))
}

/** What shims have outside of our directory: their sockets, named by a hash, and the state of a runtime without a root. */
export function shimFiles({ dir, ids }: Traces): string[] {
  const owner = join(dir, 'state', 'events.sock')
  const sockets = ids.flatMap((id) =>
    [id, `${id}-debug`].map((name) => {
      const hash = createHash('sha256')
        .update(join(owner, SHIM_NAMESPACE, name))
        .digest('hex')
      return `/run/containerd/s/${hash}`
    }),
  )
  const directories = directoriesBelow('/run/containerd')
  const named = directories.filter((path) => ids.some((id) => path.endsWith(`/${id}`)))
  return [...sockets.filter((path) => existsSync(path)), ...named]
}

/** What the database holds of sandboxes and containers. */
function rows(path: string): string[] {
  if (!exists(path)) return []
  const db = new Database(path, { readonly: true })
  try {
    const sandboxes = db.prepare<[], string>("SELECT 'sandbox ' || state || ' ' || id FROM sandboxes").pluck().all()
    const ledger = db.prepare<[], string>("SELECT 'ledger ' || kind || ' ' || state FROM ledger").pluck().all()
    const containers = db.prepare<[], string>("SELECT 'container ' || state || ' ' || id FROM containers").pluck().all()
    const networks = db.prepare<[], string>("SELECT 'network ' || sandbox_id FROM network_settings").pluck().all()
    return [...sandboxes, ...containers, ...ledger, ...networks]
  } finally {
    db.close()
  }
}

async function files(dir: string): Promise<string[]> {
  const runtimes = await names(join(dir, 'state', 'runtime'))
  const places = [
    'root/sandboxes',
    'root/containers',
    'state/sandboxes',
    'state/containers',
    'state/exits',
    ...runtimes.flatMap((name) => [`state/runtime/${name}`, `state/runtime/${name}/${SHIM_NAMESPACE}`]),
  ]
  const found = await Promise.all(
    places.map(async (place) => (await names(join(dir, place))).map((name) => `${place}/${name}`)),
  )
  // What newer ones of crun keep for themselves, and the directory in which shims have their runtimes' state.
  return found.flat().filter((path) => !/^state\/runtime\/[^/]+\/(?:\.|k8s\.io$)/.test(path))
}

async function names(dir: string): Promise<string[]> {
  return readdir(dir).catch(() => [])
}

function directoriesBelow(path: string): string[] {
  let entries: { name: string; isDirectory(): boolean }[]
  try {
    entries = readdirSync(path, { withFileTypes: true })
  } catch {
    return []
  }
  return entries
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => [join(path, name), ...directoriesBelow(join(path, name))])
}

function exists(path: string): boolean {
  try {
    readdirSync(path)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR'
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
