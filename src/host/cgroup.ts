import { readFileSync } from 'node:fs'
import { access, readFile, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../core/deadline.ts'
import { CodedError, errnoOf } from '../core/errors.ts'

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
    if (await exists(mounts, ancestor)) break
    missing.push(ancestor)
  }
  return missing
}

/** Whether the cgroup exists in any hierarchy. */
async function exists(mounts: readonly string[], path: string): Promise<boolean> {
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
 * Kills whatever is left in a cgroup and removes it from every hierarchy. A missing one is success.
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
  const pids = await readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => '')
  for (const pid of pids.split('\n').filter((line) => line !== '' && line !== '0')) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // Gone since it was listed.
    }
  }
  return false
}

async function rmdirIfPossible(directory: string): Promise<boolean> {
  try {
    await rmdir(directory)
    return true
  } catch (error) {
    return errnoOf(error) === 'ENOENT'
  }
}
