import { readFileSync } from 'node:fs'
import { access, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../../core/deadline.ts'
import { CodedError, errnoOf } from '../../core/errors.ts'

/** Where each cgroup hierarchy is mounted: one path on v2, one for each controller on v1, both on hybrid machines. */
export function cgroupMounts(): string[] {
  const mounts = new Set<string>()
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    if (/^cgroup2? /.test(after)) mounts.add(before.split(' ')[4] ?? '')
  }
  mounts.delete('')
  return [...mounts]
}

/**
 * The ancestors of a cgroup (not itself) that do not exist yet in any hierarchy, the deepest first.
 * Whoever makes the cgroup makes them too, and has to remove them when they are empty again.
 */
export async function missingAncestors(mounts: readonly string[], path: string): Promise<string[]> {
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .slice(0, -1)
  const missing: string[] = []
  for (let depth = parts.length; depth > 0; depth--) {
    const ancestor = `/${parts.slice(0, depth).join('/')}`
    if (await cgroupExists(mounts, ancestor)) break
    missing.push(ancestor)
  }
  return missing
}

/** Whether the cgroup exists in any hierarchy. */
export async function cgroupExists(mounts: readonly string[], path: string): Promise<boolean> {
  const found = await Promise.all(
    mounts.map((mount) =>
      access(join(mount, path)).then(
        () => true,
        () => false,
      ),
    ),
  )
  return found.includes(true)
}

/**
 * Kills all processes in a cgroup and below it, and returns when none is left. A missing one is success.
 * @throws CodedError `FailedPrecondition` when processes are still in it after five seconds: they cannot be killed.
 */
export async function killCgroup(mounts: readonly string[], path: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 0; attempt < 250; attempt++) {
    const killed = await Promise.all(mounts.map((mount) => killTree(join(mount, path))))
    if (!killed.includes(true)) return
    await sleep(attempt < 10 ? 2 : 20, signal)
  }
  throw new CodedError('FailedPrecondition', `kill cgroup ${path}: processes are still in it`)
}

/**
 * Freezes all processes of a cgroup and below it, and returns when none of them runs any more.
 * @throws CodedError `FailedPrecondition` when the node has no freezer, or the cgroup is not there, and on abort its reason;
 * then some may be frozen.
 */
export async function freezeCgroup(mounts: readonly string[], path: string, signal: AbortSignal): Promise<void> {
  const directory = await freezerDirectory(mounts, path)
  if (directory === undefined) throw new CodedError('FailedPrecondition', `freeze cgroup ${path}: it has no freezer`)
  const isV2 = await isThere(join(directory, 'cgroup.freeze'))
  await writeFile(join(directory, isV2 ? 'cgroup.freeze' : 'freezer.state'), isV2 ? '1' : 'FROZEN', { flag: 'r+' })
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    const text = await readFile(join(directory, isV2 ? 'cgroup.events' : 'freezer.state'), 'utf8')
    if (/^(frozen 1|FROZEN)$/m.test(text)) return
    await sleep(pauseMs, signal)
  }
}

/** Lets the processes of a cgroup run again. One that is not frozen, or not there, is success. */
export async function thawCgroup(mounts: readonly string[], path: string): Promise<void> {
  const directory = await freezerDirectory(mounts, path)
  if (directory === undefined) return
  await writeIfThere(join(directory, 'cgroup.freeze'), '0')
  await writeIfThere(join(directory, 'freezer.state'), 'THAWED')
}

/** The directory of the cgroup in the hierarchy that can freeze it. On hybrid machines that is the one of v1. */
async function freezerDirectory(mounts: readonly string[], path: string): Promise<string | undefined> {
  for (const name of ['freezer.state', 'cgroup.freeze']) {
    for (const mount of mounts) if (await isThere(join(mount, path, name))) return join(mount, path)
  }
  return undefined
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** Lets the processes of a cgroup have as much CPU time as there is. */
export async function liftCpuQuota(mounts: readonly string[], path: string): Promise<void> {
  // Of v1, of v2.
  const values = { 'cpu.cfs_quota_us': '-1', 'cpu.max': 'max' }
  for (const [name, value] of Object.entries(values)) {
    for (const mount of mounts) await writeIfThere(join(mount, path, name), value)
  }
}

/** How many processes of the cgroup the kernel has killed for want of memory; undefined when there is no such cgroup. */
export async function oomKills(mounts: readonly string[], path: string): Promise<number | undefined> {
  // Of v2, with what is below; of v1.
  const files = mounts.flatMap((mount) =>
    ['memory.events', 'memory.oom_control'].map((name) => join(mount, path, name)),
  )
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')))
  const counts = texts.flatMap((text) => /^oom_kill (\d+)$/m.exec(text)?.[1] ?? [])
  return counts.length === 0 ? undefined : Math.max(...counts.map(Number))
}

/**
 * Kills whatever is left in a cgroup and removes it, with what is below it, from every hierarchy. A missing one is success.
 * @throws CodedError `FailedPrecondition` when processes are still in it after a second: they cannot be killed.
 */
export async function removeCgroup(mounts: readonly string[], path: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const removed = await Promise.all(mounts.map((mount) => removeOnce(join(mount, path))))
    if (!removed.includes(false)) return
    await sleep(20, signal)
  }
  throw new CodedError('FailedPrecondition', `remove cgroup ${path}: it is still in use`)
}

/** Removes a cgroup where it is empty, and leaves it alone where it is not. */
export async function removeCgroupIfEmpty(mounts: readonly string[], path: string): Promise<void> {
  await Promise.all(mounts.map((mount) => rmdirIfPossible(join(mount, path))))
}

async function removeOnce(directory: string): Promise<boolean> {
  if (await rmdirIfPossible(directory)) return true
  await killTree(directory)
  await Promise.all((await below(directory)).map(removeOnce))
  return rmdirIfPossible(directory)
}

/** Sends SIGKILL to whatever is in a cgroup directory and below; false when there was nothing. */
async function killTree(directory: string): Promise<boolean> {
  const [pids, children] = await Promise.all([
    readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => ''),
    below(directory),
  ])
  // 0 is a process that we cannot see.
  const found = pids.split('\n').filter((line) => line !== '' && line !== '0')
  if (found.length > 0) await killAtOnce(directory)
  for (const pid of found) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // Gone since it was listed.
    }
  }
  return (await Promise.all(children.map(killTree))).includes(true) || found.length > 0
}

/** On v2 the kernel kills them all, also those being born; on v1 those that are frozen have to be thawed for it. */
async function killAtOnce(directory: string): Promise<void> {
  const files = { 'cgroup.kill': '1', 'freezer.state': 'THAWED' }
  await Promise.all(
    // Neither is everywhere.
    Object.entries(files).map(([name, text]) => writeFile(join(directory, name), text, { flag: 'r+' }).catch(() => {})),
  )
}

async function writeIfThere(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'r+' })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

async function below(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(directory, name))
}

async function rmdirIfPossible(directory: string): Promise<boolean> {
  try {
    await rmdir(directory)
    return true
  } catch (error) {
    return errnoOf(error) === 'ENOENT'
  }
}
