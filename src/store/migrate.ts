import type Database from 'better-sqlite3'
import { CodedError, errorMessage } from '../core/errors.ts'
import { isDamage, isUnavailable } from './failures.ts'
import { keepCopy } from './kept-copy.ts'
import { type Migrated, WRITTEN_BY_KEY } from './rows.ts'
import { MIGRATIONS, SCHEMA_VERSION } from './schema.ts'

/**
 * Brings a database up to date: all steps at once, or none. A copy of it as it was is kept. Undefined for one that is new,
 * or needs nothing.
 * @throws CodedError for a newer schema (`FailedPrecondition`), and when the copy or the change cannot be written (disk full;
 * `ResourceExhausted`): nothing has changed then, and the sandboxerd of before can go on with it. Another error for a
 * database that is damaged, or that somebody else has locked.
 */
export function migrate(db: Database.Database, path: string): Migrated | undefined {
  const from = schemaVersion(db)
  if (from > SCHEMA_VERSION) throw tooNew(db, path, from)
  if (from === SCHEMA_VERSION) return undefined
  try {
    const copy = from > 0 ? keepCopy(db, path, from) : undefined
    db.transaction(() => {
      for (const { up } of MIGRATIONS.slice(from)) db.exec(up)
      db.pragma(`user_version = ${SCHEMA_VERSION}`)
    })()
    return copy === undefined ? undefined : { from, to: SCHEMA_VERSION, copy }
  } catch (error) {
    if (from === 0 || isDamage(error) || isUnavailable(error)) throw error
    throw new CodedError(
      'ResourceExhausted',
      `bring ${path} from schema version ${from} to ${SCHEMA_VERSION}: ${errorMessage(error)}; nothing was changed: ` +
        'make room on its disk and start sandboxerd again, or install the version again that was here before',
      { cause: error },
    )
  }
}

export function schemaVersion(db: Database.Database): number {
  return Number(db.pragma('user_version', { simple: true }))
}

function tooNew(db: Database.Database, path: string, version: number): CodedError {
  const writer = `sandboxerd ${writtenBy(db) ?? 'of a newer version'}`
  return new CodedError(
    'FailedPrecondition',
    `open ${path}: its schema version ${version} is newer than ${SCHEMA_VERSION}, the newest that this sandboxerd knows, ` +
      `and nothing was changed: install the ${writer} again that has used it; to go back to this one from there, stop it and ` +
      `run its "sandboxerd --prepare-downgrade ${SCHEMA_VERSION}" before this one is installed`,
  )
}

/** Newer schemas may not have it any more. */
function writtenBy(db: Database.Database): string | undefined {
  try {
    const row = db.prepare<[string], { value: unknown }>('SELECT value FROM node WHERE key = ?').get(WRITTEN_BY_KEY)
    return typeof row?.value === 'string' ? row.value : undefined
  } catch {
    // It only names the version in a message.
    return undefined
  }
}
