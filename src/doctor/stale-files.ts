import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../core/errors.ts'
import { removeFile } from '../host/files.ts'
import type { Check, Suspicion } from './doctor.ts'

const HOUR_MS = 3600_000
/** So long whoever wants to know what had happened to a database finds it. */
const KEPT_DAYS = 7

/** Files of ours that whoever wrote them did not live to rename: only old ones, since a write may be under way. */
export function staleFiles(directories: () => Promise<readonly string[]>, nowMs: () => number = Date.now): Check {
  return {
    look: async () => {
      const lists = await Promise.all(
        (await directories()).map((directory) => filesIn(directory, /\.tmp(?:-journal)?$/)),
      )
      const old = await Promise.all(lists.flat().map((path) => isOlder(path, nowMs() - HOUR_MS)))
      return lists
        .flat()
        .filter((_, at) => old[at])
        .map((path) => stale('stale-file', path, 'file of a write that never ended', nowMs() - HOUR_MS))
    },
  }
}

/** Databases that were damaged, and were set aside when a new one was begun. */
export function damagedDatabases(root: string, nowMs: () => number = Date.now): Check {
  return {
    look: async () => {
      const paths = await filesIn(root, /^sandboxerd\.db\.damaged-/)
      const newest = nowMs() - KEPT_DAYS * 24 * HOUR_MS
      const old = paths.filter((path) => setAsideAtMs(path) < newest)
      const what = `database that was damaged and set aside more than ${KEPT_DAYS} days ago`
      return old.map((path) => stale('database-set-aside', path, what, newest))
    },
  }
}

function stale(kind: string, path: string, what: string, newestMs: number): Suspicion {
  return {
    kind,
    ownerId: null,
    subject: path,
    message: `${what}: --fix removes it`,
    isStill: () => (kind === 'stale-file' ? isOlder(path, newestMs) : isThere(path)),
    repair: () => removeFile(path),
  }
}

/** By its name, since a file that is renamed keeps its time: `…damaged-2026-11-21T16-27-37-123Z`. */
function setAsideAtMs(path: string): number {
  const [, date, h, m, s] = /damaged-(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-\d{3}Z/.exec(path) ?? []
  const time = Date.parse(`${date}T${h}:${m}:${s}Z`)
  return Number.isNaN(time) ? Number.POSITIVE_INFINITY : time
}

async function filesIn(directory: string, name: RegExp): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile() && name.test(entry.name))
      .map((entry) => join(directory, entry.name))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function isOlder(path: string, newestMs: number): Promise<boolean> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs < newestMs,
    () => false,
  )
}

async function isThere(path: string): Promise<boolean> {
  return isOlder(path, Number.POSITIVE_INFINITY)
}
