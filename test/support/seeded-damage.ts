import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { newId } from '../../src/core/ids.ts'
import { Sealer } from '../../src/core/seal.ts'
import type { Finding } from '../../src/doctor/doctor.ts'
import { monitorArguments } from '../../src/executor/monitor.ts'
import { run, runOk } from '../../src/host/programs/run.ts'
import type { TestDaemon } from './daemon.ts'

const CTL = fileURLToPath(new URL('../../dist/sandboxerctl.js', import.meta.url))
const TIMEOUT_MS = 60_000
const IDLE = 'setInterval(() => {}, 1e6)'

/** What `sandboxerctl doctor --json` says on the daemon's node, whether the daemon runs or not. */
export async function doctor(daemon: TestDaemon, ...options: readonly string[]): Promise<Finding[]> {
  const { stdout, stderr, exitCode } = await callDoctor(daemon, '--json', ...options)
  if (exitCode === undefined || exitCode > 1 || stdout === '')
    throw new Error(`doctor ended with ${exitCode}: ${stderr}`)
  return JSON.parse(stdout) as Finding[]
}

export async function callDoctor(
  daemon: TestDaemon,
  ...options: readonly string[]
): Promise<{ readonly stdout: string; readonly stderr: string; readonly exitCode: number | undefined }> {
  const config = join(daemon.dir, 'config.toml')
  const command = [process.execPath, CTL, 'doctor', '--config', config, ...options]
  const { stdout, stderr, exitCode } = await run('/usr/bin/nsenter', [`--net=/run/netns/${daemon.node}`, ...command], {
    timeoutMs: TIMEOUT_MS,
  })
  return { stdout, stderr, exitCode }
}

/** An id as the daemon makes them. */
export async function ownId({ dir }: TestDaemon): Promise<string> {
  return newId(new Sealer(await readFile(join(dir, 'root', 'checkpoint.key'))))
}

/** Pins a new network namespace as that of a sandbox. */
export async function pinNetns({ dir }: TestDaemon, id: string): Promise<string> {
  const path = join(dir, 'netns', `sbx-${id}`)
  await mkdir(join(dir, 'netns'), { recursive: true })
  await writeFile(path, '')
  await runOk('/usr/bin/unshare', [`--net=${path}`, '/bin/true'], { timeoutMs: TIMEOUT_MS })
  return path
}

/** An address as host-local notes it. */
export async function reserve({ dir }: TestDaemon, address: string, id: string): Promise<string> {
  await mkdir(join(dir, 'ipam', 'test'), { recursive: true })
  const path = join(dir, 'ipam', 'test', address)
  await writeFile(path, `${id}\r\neth0`)
  return path
}

export async function mountShm({ dir }: TestDaemon, id: string): Promise<string> {
  const path = join(dir, 'state', 'sandboxes', id, 'shm')
  await mkdir(path, { recursive: true })
  await runOk('/bin/mount', ['-t', 'tmpfs', 'shm', path], { timeoutMs: TIMEOUT_MS })
  return path
}

/** Takes a sandbox, or a container, out of the database of a daemon that does not run; what it has stays. */
export function forget(daemon: TestDaemon, id: string, table: 'sandboxes' | 'containers' = 'sandboxes'): void {
  const db = new Database(daemon.database)
  try {
    for (const sql of ['DELETE FROM ledger WHERE owner_id = ?', `DELETE FROM ${table} WHERE id = ?`]) {
      db.prepare(sql).run(id)
    }
  } finally {
    db.close()
  }
}

/**
 * Starts a monitor with a pause container by hand, as the daemon does it; nobody has it on record.
 * @param like a sandbox of crun whose bundle is copied.
 */
export async function strayPause({ dir }: TestDaemon, id: string, like: string): Promise<void> {
  const state = join(dir, 'state')
  const bundle = join(state, 'sandboxes', id)
  await mkdir(bundle, { recursive: true })
  const spec = JSON.parse(await readFile(join(state, 'sandboxes', like, 'config.json'), 'utf8')) as {
    linux: { cgroupsPath: string; namespaces: { type: string; path?: string }[] }
  }
  spec.linux.cgroupsPath = `/sandboxerd/${id}`
  for (const namespace of spec.linux.namespaces) delete namespace.path
  await writeFile(join(bundle, 'config.json'), JSON.stringify(spec).replaceAll(like, id))
  const root = join(state, 'runtime', 'crun')
  const runtime = { path: '/usr/bin/crun', root, systemdCgroup: false }
  const record = { id, runtime, bundleDir: bundle, cgroupsPath: `/sandboxerd/${id}`, ownedCgroupParents: [] }
  await runOk('/usr/bin/conmon', monitorArguments(record, join(state, 'exits')), { timeoutMs: TIMEOUT_MS, cwd: bundle })
  for (let tries = 0; ; tries++) {
    const { exitCode } = await run('/usr/bin/crun', ['--root', root, 'start', id], { timeoutMs: TIMEOUT_MS })
    if (exitCode === 0) return
    if (tries > 100) throw new Error(`crun start ${id}: exit code ${exitCode}`)
    await sleep(20)
  }
}

/** A process that looks like a monitor of another runtime. */
export function foreignMonitor(id: string): ChildProcess {
  const args = ['--cid', id, '--exit-dir', '/var/run/crio/exits', '--bundle', `/run/containers/${id}`]
  return spawn(process.execPath, ['-e', IDLE, '--', ...args], { argv0: '/usr/bin/conmon', stdio: 'ignore' })
}

/** One that looks like ours, of a sandboxerd in a container that has the same paths there. */
export function nestedMonitor({ dir }: TestDaemon, id: string): ChildProcess {
  const state = join(dir, 'state')
  const args = ['--cid', id, '--exit-dir', join(state, 'exits'), '--bundle', join(state, 'sandboxes', id)]
  const script = `mount -t tmpfs none ${state} && exec -a /usr/bin/conmon "$0" "$@"`
  const command = ['--mount', '/bin/bash', '-c', script, process.execPath, '-e', IDLE, '--', ...args]
  return spawn('/usr/bin/unshare', command, { stdio: 'ignore' })
}
