import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openStore } from '../../../src/store/database.ts'
import type { Change } from '../../../src/store/rows.ts'

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'database-'))
  path = join(directory, 'sandboxerd.db')
})
afterEach(() => rmSync(directory, { recursive: true }))

const put = (key: string): Change => ({ op: 'putNode', key, value: 'v' })

/** Makes SQLite fail at one key, in its own way. */
function refuse(key: string, how: 'ABORT' | 'ROLLBACK'): void {
  openStore(path, new Date()).close()
  const db = new Database(path)
  db.exec(`CREATE TRIGGER refusal BEFORE INSERT ON node WHEN NEW.key = '${key}' BEGIN SELECT RAISE(${how}, 'no'); END`)
  db.close()
}

/** What becomes of batches of keys: which fail, and what is stored then. */
function commit(batches: readonly (readonly string[])[]): { failed: boolean[]; stored: string[] } {
  const file = openStore(path, new Date())
  const failed = file.commit(batches.map((keys) => keys.map(put))).map((error) => error !== null)
  file.close()
  const again = openStore(path, new Date())
  again.close()
  return { failed, stored: Object.keys(again.loaded.node).toSorted() }
}

describe('commit', () => {
  it('does each batch whole or not at all', () => {
    refuse('bad', 'ABORT')
    expect(commit([['a'], ['b', 'bad'], ['c']])).toEqual({ failed: [false, true, false], stored: ['a', 'c'] })
  })

  it('does none of them when SQLite takes all of them back', () => {
    refuse('bad', 'ROLLBACK')
    expect(commit([['a'], ['b', 'bad'], ['c']])).toEqual({ failed: [true, true, true], stored: [] })
  })
})
