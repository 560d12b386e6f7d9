import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'
import { readTextIfAny, removeFile } from '../host/files.ts'
import type { Libc } from '../host/libc.ts'
import { identifyProcess, isAlive, type ProcessIdentity, signalProcess } from '../host/process.ts'
import { cgroupsPath } from '../oci/cgroups-path.ts'
import { endsWithin, findContainerProcess } from './container-process.ts'
import { listMonitors } from './monitor.ts'
import type { Removal } from './removal.ts'
import type { ContainerRecord, OciRuntime } from './types.ts'

/** A monitor ends by itself once its container has. */
const MONITOR_MS = 2000
const KILL_MS = 5000
const NO_RUNTIME: OciRuntime = { path: '', root: '', systemdCgroup: false }

export interface LeftOptions {
  readonly exitsDir: string
  /** The directories in which sandboxes, and containers, have their bundles, named by their ids. */
  readonly bundleParents: readonly string[]
  /** Those whose state directories are nobody's but ours. */
  readonly runtimes: readonly OciRuntime[]
  readonly bootId: string
}

/** What is there of a container of which there may be no record. */
export interface LeftContainer {
  readonly record: ContainerRecord
  readonly monitors: readonly ProcessIdentity[]
  readonly process: ProcessIdentity | null
}

/**
 * The containers that run, or that a runtime knows, by what is in our own directories and by monitors that name these: no
 * record is needed, and none that is wrong misleads.
 */
export async function findLeftContainers(
  isWanted: (id: string) => boolean,
  options: LeftOptions,
): Promise<LeftContainer[]> {
  const { bootId, bundleParents, runtimes } = options
  // Identified at once: in a while the pid may be a stranger's.
  const monitors = listMonitors(options.exitsDir)
    .filter(({ id, bundleDir }) => bundleParents.some((parent) => bundleDir === join(parent, id)))
    .map((monitor) => ({ ...monitor, process: identifyProcess(monitor.pid, bootId) }))
  const states = await Promise.all(runtimes.map(async (runtime) => ({ runtime, ids: await idsIn(runtime.root) })))
  const bundles = await Promise.all(bundleParents.map(async (parent) => ({ parent, ids: await idsIn(parent) })))
  const all = [
    ...monitors.map(({ id }) => id),
    ...states.flatMap(({ ids }) => ids),
    ...bundles.flatMap(({ ids }) => ids),
  ]
  const found = [...new Set(all)].filter(isWanted).map(async (id): Promise<LeftContainer | null> => {
    const own = monitors.filter((monitor) => monitor.id === id)
    const state = states.find(({ ids }) => ids.includes(id))
    const parent = bundles.find(({ ids }) => ids.includes(id))?.parent ?? bundleParents[0] ?? '/'
    const bundleDir = own[0]?.bundleDir ?? join(parent, id)
    const runtime = own[0]?.runtime ?? state?.runtime ?? NO_RUNTIME
    const record = {
      id,
      runtime,
      bundleDir,
      cgroupsPath: await cgroupOf(id, bundleDir, runtime),
      ownedCgroupParents: [],
    }
    const process = await findContainerProcess(record, bootId)
    if (own.length === 0 && !state && !process) return null
    return { record, process, monitors: own.flatMap((monitor) => monitor.process ?? []) }
  })
  return (await Promise.all(found)).filter((one) => one !== null)
}

/** Ends one, and removes all that its runtime and its monitor keep of it. Nothing there is success. */
export async function removeLeftContainer(
  { record, monitors }: LeftContainer,
  options: LeftOptions,
  deps: { readonly removal: Removal; readonly libc: Libc },
  signal: AbortSignal,
): Promise<void> {
  const { bootId, exitsDir } = options
  await deps.removal.delete(record, signal)
  for (const monitor of monitors) {
    if (await endsWithin(monitor, bootId, MONITOR_MS, signal)) continue
    signalProcess(deps.libc, monitor, bootId, 'SIGKILL')
    await endsWithin(monitor, bootId, KILL_MS, signal)
  }
  // A monitor that did not say where it was has written it only now.
  await removeFile(join(exitsDir, record.id))
}

/** Whether any process of it is there. */
export function isRunning({ process, monitors }: LeftContainer, bootId: string): boolean {
  return [...monitors, ...(process ? [process] : [])].some((one) => isAlive(one, bootId))
}

/** The cgroup that the specification names; without one, where ours are by default. Everything in it is going to be killed. */
async function cgroupOf(id: string, bundleDir: string, { systemdCgroup }: OciRuntime): Promise<string> {
  const driver = systemdCgroup ? 'systemd' : 'cgroupfs'
  const named = cgroupIn((await readTextIfAny(join(bundleDir, 'config.json'))) ?? '')
  const isOwn = driver === 'systemd' ? named.endsWith(`:${id}`) : named.startsWith('/') && named.endsWith(`/${id}`)
  return isOwn ? named : cgroupsPath({ driver, cgroupParent: '', id })
}

function cgroupIn(text: string): string {
  try {
    const path = (JSON.parse(text) as { linux?: { cgroupsPath?: unknown } }).linux?.cgroupsPath
    return typeof path === 'string' ? path : ''
  } catch {
    // Cut short, or not there.
    return ''
  }
}

async function idsIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => /^[0-9a-f]{64}$/.test(name))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
