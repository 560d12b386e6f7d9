import { closeSync, existsSync, fchmodSync, openSync, renameSync } from 'node:fs'
import type Database from 'better-sqlite3'
import { CodedError, errorMessage } from '../core/errors.ts'
import { openSound } from './connection.ts'
import { isNoRoom, isUnavailable } from './failures.ts'
import { migrate } from './migrate.ts'
import type { Change, ContainerRow, LedgerRow, Loaded, Migrated, NetworkRow, OwnerRows, SandboxRow } from './rows.ts'

type Apply = (change: Change) => void

/** The SQLite file. Synchronous: it lives on the store thread. */
export interface StoreFile {
  readonly loaded: Loaded
  /**
   * Applies batches in one durable commit. Each batch happens whole or not at all; the answer holds the error of each
   * that did not.
   */
  commit(batches: readonly (readonly Change[])[]): readonly (Error | null)[]
  /** For people: nothing that is done depends on what is read again. */
  rowsOf(id: string): OwnerRows
  close(): void
}

interface Opened {
  readonly db: Database.Database
  readonly migrated: Migrated | undefined
}

/**
 * Opens the database, and brings its schema up to date. One that is damaged is set aside and begun anew.
 * @throws CodedError as `migrate`; for one that is sound `ResourceExhausted` on a disk without any room, and
 * `Unavailable` while somebody else has it locked, or there is no memory or descriptor for it.
 */
export function openStore(path: string, now: Date): StoreFile {
  let setAside: Loaded['setAside']
  let opened: Opened
  try {
    opened = openChecked(path)
  } catch (error) {
    if (error instanceof CodedError) throw error
    if (isNoRoom(error) || isUnavailable(error)) {
      const code = isNoRoom(error) ? 'ResourceExhausted' : 'Unavailable'
      throw new CodedError(code, `open ${path}: ${errorMessage(error)}; nothing was changed`, { cause: error })
    }
    const aside = `${path}.damaged-${now.toISOString().replaceAll(/[:.]/g, '-')}`
    for (const suffix of ['', '-wal', '-shm']) {
      if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix)
    }
    setAside = { reason: errorMessage(error), path: aside }
    opened = openChecked(path)
  }
  const { db, migrated } = opened
  const apply = prepareChanges(db)
  return {
    loaded: { ...load(db), setAside, ...(migrated ? { migrated } : {}) },
    commit: (batches) => commitAll(db, apply, batches),
    rowsOf: (id) => rowsOf(db, id),
    close: () => db.close(),
  }
}

function openChecked(path: string): Opened {
  // SQLite gives its other files the mode of this one, which it would let everybody read.
  const fd = openSync(path, 'a', 0o600)
  fchmodSync(fd, 0o600)
  closeSync(fd)
  const db = openSound(path)
  try {
    return { db, migrated: migrate(db, path) }
  } catch (error) {
    db.close()
    throw error
  }
}

function load(db: Database.Database): Omit<Loaded, 'setAside'> {
  const node = db.prepare<[], { key: string; value: string }>('SELECT key, value FROM node').all()
  return {
    sandboxes: db.prepare<[], SandboxRow>('SELECT * FROM sandboxes').all(),
    networks: db.prepare<[], NetworkRow>('SELECT * FROM network_settings').all(),
    containers: db.prepare<[], ContainerRow>('SELECT * FROM containers').all(),
    ledger: db.prepare<[], LedgerRow>('SELECT * FROM ledger ORDER BY owner_id, seq').all(),
    node: Object.fromEntries(node.map(({ key, value }) => [key, value])),
  }
}

function rowsOf(db: Database.Database, id: string): OwnerRows {
  return {
    sandbox: db.prepare<[string], SandboxRow>('SELECT * FROM sandboxes WHERE id = ?').get(id) ?? null,
    network: db.prepare<[string], NetworkRow>('SELECT * FROM network_settings WHERE sandbox_id = ?').get(id) ?? null,
    container: db.prepare<[string], ContainerRow>('SELECT * FROM containers WHERE id = ?').get(id) ?? null,
    ledger: db.prepare<[string], LedgerRow>('SELECT * FROM ledger WHERE owner_id = ? ORDER BY seq').all(id),
  }
}

function prepareChanges(db: Database.Database): Apply {
  const putSandbox = db.prepare(`
    INSERT INTO sandboxes VALUES (@id, @name, @metadata, @checkpoint_hash, @state, @status, @seal)
    ON CONFLICT (id) DO UPDATE SET name = @name, metadata = @metadata, checkpoint_hash = @checkpoint_hash,
      state = @state, status = @status, seal = @seal`)
  const deleteSandbox = db.prepare('DELETE FROM sandboxes WHERE id = ?')
  const putContainer = db.prepare(`
    INSERT INTO containers VALUES (@id, @sandbox_id, @name, @metadata, @state, @status, @seal)
    ON CONFLICT (id) DO UPDATE SET sandbox_id = @sandbox_id, name = @name, metadata = @metadata,
      state = @state, status = @status, seal = @seal`)
  const deleteContainer = db.prepare('DELETE FROM containers WHERE id = ?')
  const putNetwork = db.prepare('INSERT OR REPLACE INTO network_settings VALUES (@sandbox_id, @settings, @seal)')
  const putLedger = db.prepare(`
    INSERT OR REPLACE INTO ledger VALUES (@owner_id, @seq, @kind, @state, @record, @boot_id, @seal)`)
  const deleteLedger = db.prepare('DELETE FROM ledger WHERE owner_id = ? AND seq = ?')
  const putNode = db.prepare('INSERT OR REPLACE INTO node VALUES (?, ?)')
  return (change) => {
    switch (change.op) {
      case 'putSandbox':
        return void putSandbox.run(change.row)
      case 'deleteSandbox':
        return void deleteSandbox.run(change.id)
      case 'putContainer':
        return void putContainer.run(change.row)
      case 'deleteContainer':
        return void deleteContainer.run(change.id)
      case 'putNetwork':
        return void putNetwork.run(change.row)
      case 'putLedger':
        return void putLedger.run(change.row)
      case 'deleteLedger':
        return void deleteLedger.run(change.ownerId, change.seq)
      case 'putNode':
        return void putNode.run(change.key, change.value)
    }
  }
}

function commitAll(
  db: Database.Database,
  apply: Apply,
  batches: readonly (readonly Change[])[],
): readonly (Error | null)[] {
  // Inside another transaction, better-sqlite3 makes this one a savepoint: a batch that fails takes only itself back.
  const batch = db.transaction((changes: readonly Change[]) => {
    for (const change of changes) apply(change)
  })
  const all = db.transaction(() =>
    batches.map((changes) => {
      try {
        batch(changes)
        return null
      } catch (error) {
        // SQLite has taken all of them back (disk full): what comes now would be a commit of its own.
        if (!db.inTransaction) throw error
        return error instanceof Error ? error : new Error(String(error))
      }
    }),
  )
  try {
    return all.immediate()
  } catch (error) {
    // Not even the commit went through (disk full, I/O error): none of the batches happened.
    const failure = error instanceof Error ? error : new Error(String(error))
    return batches.map(() => failure)
  }
}
