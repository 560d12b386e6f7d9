import { readdir, readFile } from 'node:fs/promises'

/**
 * What the kernel counts of this process; `maxFds` is the soft limit of descriptors, Infinity for none.
 * @throws Error when /proc cannot be read.
 */
export async function readOwnUsage(): Promise<{ openFds: number; maxFds: number; threads: number }> {
  const [fds, threads, limits] = await Promise.all([
    readdir('/proc/self/fd'),
    readdir('/proc/self/task'),
    readFile('/proc/self/limits', 'latin1'),
  ])
  const [, soft] = /^Max open files\s+(\S+)/m.exec(limits) ?? []
  const maxFds = soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft)
  // One of them is open for the reading of the list.
  return { openFds: fds.length - 1, maxFds, threads: threads.length }
}
