import { cpSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runOk } from '../../src/host/programs/run.ts'
import { openStore } from '../../src/store/database.ts'
import { prepareDowngrade } from '../../src/store/downgrade.ts'
import type { Loaded } from '../../src/store/rows.ts'
import { SCHEMA_VERSION } from '../../src/store/schema.ts'
import { fill } from '../support/full-disk.ts'
import { releases } from '../support/releases.ts'

const LIMITS = { timeoutMs: 10_000 }
/** Enough for SQLite to open a database, and too little for a copy of it. */
const LITTLE_ROOM_BYTES = 64 * 1024

let directory: string
let path: string
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sbx-full-'))
  path = join(directory, 'sandboxerd.db')
  await runOk('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory], LIMITS)
  const first = releases().find(({ version: name }) => name === 'schema-1')
  cpSync(join(first?.dir ?? '', 'sandboxerd.db'), path)
})
afterEach(async () => {
  await runOk('umount', ['-l', directory], LIMITS)
  rmSync(directory, { recursive: true })
})

function version(): number {
  const db = new Database(path)
  try {
    return Number(db.pragma('user_version', { simple: true }))
  } finally {
    db.close()
  }
}

function open(): Loaded {
  const store = openStore(path, new Date())
  store.close()
  return store.loaded
}

/** Leaves no room but `bytes`. */
function fillBut(bytes: number): () => void {
  const free = fill(directory)
  const filler = join(directory, 'filler')
  truncateSync(filler, statSync(filler).size - bytes)
  return free
}

/** What is there but the database with its log, and what fills the disk. */
const others = (): string[] =>
  readdirSync(directory).filter((name) => !/^(sandboxerd\.db(-wal|-shm)?|filler)$/.test(name))

describe('a full disk', () => {
  it('keeps a database of an older version as it is, for that version to go on with', () => {
    const free = fillBut(LITTLE_ROOM_BYTES)
    expect(open).toThrow(/from schema version 1 to \d+: .*full.*nothing was changed/)
    expect([version(), others()]).toEqual([1, []])
    free()
    const { sandboxes, setAside } = open()
    expect([version(), sandboxes.length, setAside]).toEqual([SCHEMA_VERSION, 3, undefined])
  })

  it('lets nobody go back to an older version, and nothing is changed', () => {
    open()
    rmSync(`${path}.v1.bak`)
    const free = fillBut(LITTLE_ROOM_BYTES)
    expect(() => prepareDowngrade(path, 1)).toThrow(/full.*nothing was changed/)
    expect([version(), others()]).toEqual([SCHEMA_VERSION, []])
    free()
    expect(prepareDowngrade(path, 1)).toMatchObject({ from: SCHEMA_VERSION, to: 1 })
  })

  it('without any room is no damage of the database: it is not set aside', () => {
    open()
    rmSync(`${path}.v1.bak`)
    const free = fill(directory)
    expect(open).toThrow(/^open /)
    expect(others()).toEqual([])
    free()
    expect(open().sandboxes).toHaveLength(3)
  })
})
