import { existsSync } from 'node:fs'
import type Database from 'better-sqlite3'
import { CodedError, errorMessage } from '../core/errors.ts'
import { openSound } from './connection.ts'
import { keepCopy } from './kept-copy.ts'
import { schemaVersion } from './migrate.ts'
import type { Migrated } from './rows.ts'
import { MIGRATIONS, SCHEMA_VERSION } from './schema.ts'

/** How many of the things that would be lost are named. */
const MAX_NAMED = 5

/**
 * Brings a database down to an older schema, all steps or none, so that an older sandboxerd can open it; a copy of it as it
 * was is kept. Undefined when there is nothing to do. No daemon may have it open.
 * @throws CodedError `InvalidArgument` for a version that is none; `FailedPrecondition` when it is damaged or newer than
 * ours, there is no way back, or something would be lost, which is named: nothing has changed then.
 */
export function prepareDowngrade(path: string, to: number): Migrated | undefined {
  if (!Number.isInteger(to) || to < 1) throw new CodedError('InvalidArgument', `schema version ${to}: there is none`)
  if (!existsSync(path)) return undefined
  let db: Database.Database | undefined
  try {
    db = openSound(path)
    return bringDown(db, path, to)
  } catch (error) {
    if (error instanceof CodedError) throw error
    const why = `${errorMessage(error)}; nothing was changed`
    throw new CodedError('FailedPrecondition', `bring ${path} to schema version ${to}: ${why}`, { cause: error })
  } finally {
    db?.close()
  }
}

function bringDown(db: Database.Database, path: string, to: number): Migrated | undefined {
  const from = schemaVersion(db)
  if (from <= to) return undefined
  if (from > SCHEMA_VERSION) throw new Error(`its schema version ${from} is newer than ${SCHEMA_VERSION}`)
  const copy = keepCopy(db, path, from)
  db.transaction(() => {
    for (let version = from; version > to; version--) stepDown(db, version)
    db.pragma(`user_version = ${to}`)
  })()
  return { from, to, copy }
}

function stepDown(db: Database.Database, version: number): void {
  const down = MIGRATIONS[version - 1]?.down
  if (!down) throw new Error(`there is no way back from schema version ${version}`)
  const losses = db.prepare<[], string>(down.losses).pluck().all()
  if (losses.length > 0)
    throw new Error(`schema version ${version - 1} cannot hold ${named(losses)}; remove them first`)
  db.exec(down.sql)
}

function named(losses: readonly string[]): string {
  const more = losses.length > MAX_NAMED ? ` and ${losses.length - MAX_NAMED} more` : ''
  return `${losses.slice(0, MAX_NAMED).join(', ')}${more}`
}
