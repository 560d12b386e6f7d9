import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import Database from 'better-sqlite3'

/** How many copies are kept, the newest ones. */
const MAX_COPIES = 3

/**
 * Keeps a copy of a database as it is now, beside it: `<path>.v<version>.bak`. It is read back before it counts, and is on
 * the disk when this returns. Another one of that version is replaced; of all, only the newest are kept.
 * @throws Error when it could not be made (disk full), or is not what was copied; then there is none.
 */
export function keepCopy(db: Database.Database, path: string, version: number): string {
  const copy = `${path}.v${version}.bak`
  const temporary = `${copy}.tmp`
  try {
    drop(temporary)
    // SQLite would let everybody read it.
    closeSync(openSync(temporary, 'wx', 0o600))
    db.prepare('VACUUM INTO ?').run(temporary)
    compare(db, temporary)
    sync(temporary)
    renameSync(temporary, copy)
    sync(dirname(path))
  } catch (error) {
    drop(temporary)
    throw error
  }
  // Not by its time: the clock may have been set back.
  const others = copies(path).filter((file) => basename(file) !== basename(copy))
  for (const old of others.slice(MAX_COPIES - 1)) rmSync(old, { force: true })
  return copy
}

/** A copy that was not finished, with what SQLite had beside it. */
function drop(temporary: string): void {
  for (const suffix of ['', '-journal']) rmSync(temporary + suffix, { force: true, recursive: true })
}

/** The copies of a database that there are, the newest first. */
function copies(path: string): string[] {
  const directory = dirname(path)
  const isCopy = (name: string): boolean => name.startsWith(`${basename(path)}.v`) && /\.v\d+\.bak$/.test(name)
  return readdirSync(directory)
    .filter(isCopy)
    .map((name) => join(directory, name))
    .map((file) => ({ file, mtimeMs: statSync(file).mtimeMs }))
    .toSorted((a, b) => b.mtimeMs - a.mtimeMs)
    .map(({ file }) => file)
}

function compare(db: Database.Database, path: string): void {
  const copy = new Database(path, { readonly: true, fileMustExist: true })
  try {
    const check = copy.pragma('integrity_check(1)', { simple: true })
    if (check !== 'ok') throw new Error(`copy ${path}: ${String(check)}`)
    if (contents(copy) !== contents(db)) throw new Error(`copy ${path}: it is not what was copied`)
  } finally {
    copy.close()
  }
}

/** The version, and how many rows each table has. */
function contents(db: Database.Database): string {
  const tables = db
    .prepare<[], { name: string }>("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    .all()
  const counts = tables.map(({ name }) => {
    const row = db.prepare<[], { rows: number }>(`SELECT count(*) AS rows FROM "${name}"`).get()
    return `${name} ${row?.rows ?? 0}`
  })
  return [String(db.pragma('user_version', { simple: true })), ...counts].join(', ')
}

function sync(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
