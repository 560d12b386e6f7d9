import Database from 'better-sqlite3'

/**
 * Opens a database as we work with it: every commit is on the disk when it returns.
 * @throws Error of SQLite, or what is damaged; then it is closed.
 */
export function openSound(path: string): Database.Database {
  const db = new Database(path)
  try {
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('busy_timeout = 5000')
    db.pragma('foreign_keys = ON')
    const check = db.pragma('quick_check(1)', { simple: true })
    if (check !== 'ok') throw new Error(`quick_check: ${String(check)}`)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}
