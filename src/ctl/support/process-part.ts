import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { Part } from './collect.ts'

/** Of `/proc/PID`: nothing that holds the environment, the command line or memory. */
const FILES = ['status', 'limits', 'io', 'stat', 'wchan', 'oom_score', 'cgroup', 'sched'] as const
const THREAD_FILES = ['comm', 'wchan', 'stack'] as const
const MAX_THREADS = 64

/** What the kernel tells of the daemon, which says where it hangs when it says nothing itself. */
export function processPart(lockPath: string): Part {
  return {
    name: 'daemon/process.txt',
    collect: async () => {
      const pid = await lockHolder(lockPath)
      if (pid === undefined) throw new CodedError('NotFound', `nobody holds ${lockPath}: the daemon does not run`)
      const dir = `/proc/${pid}`
      const parts = [`pid ${pid}: ${await tryTo(() => readlink(join(dir, 'exe')))}`]
      for (const file of FILES) parts.push(`== ${file}\n${await tryTo(() => readFile(join(dir, file), 'utf8'))}`)
      parts.push(`== open files\n${await tryTo(() => openFiles(dir))}`)
      for (const thread of (await readdir(join(dir, 'task'))).slice(0, MAX_THREADS)) {
        const texts = THREAD_FILES.map((file) => tryTo(() => readFile(join(dir, 'task', thread, file), 'utf8')))
        parts.push(`== thread ${thread}\n${(await Promise.all(texts)).map((text) => text.trim()).join('\n')}`)
      }
      return parts.join('\n')
    },
  }
}

/** The process that has locked a file (flock), from the kernel's list. */
async function lockHolder(path: string): Promise<number | undefined> {
  const { ino } = await stat(path)
  for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
    const [, kind, , , pid, file] = line.trim().split(/\s+/)
    if (kind === 'FLOCK' && file?.endsWith(`:${ino}`)) return Number(pid)
  }
  return undefined
}

/** How many there are of each kind: `17 socket`. */
async function openFiles(dir: string): Promise<string> {
  const counts = new Map<string, number>()
  for (const fd of await readdir(join(dir, 'fd'))) {
    const target = await tryTo(() => readlink(join(dir, 'fd', fd)))
    const kind = target.startsWith('/') ? target : (target.split(':', 1)[0] ?? '')
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return [...counts].map(([kind, count]) => `${count} ${kind}`).join('\n')
}

async function tryTo(read: () => Promise<string>): Promise<string> {
  try {
    return await read()
  } catch (error) {
    return `(${errorMessage(error)})`
  }
}
