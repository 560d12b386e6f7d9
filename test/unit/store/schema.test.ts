import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openStore } from '../../../src/store/database.ts'
import { prepareDowngrade } from '../../../src/store/downgrade.ts'
import type { Loaded } from '../../../src/store/rows.ts'
import { MIGRATIONS, SCHEMA_VERSION } from '../../../src/store/schema.ts'

const SANDBOX = 'a'.repeat(64)
const CONTAINER = 'c'.repeat(64)
const NOW = new Date('2026-11-21T00:00:00Z')

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'schema-'))
  path = join(directory, 'sandboxerd.db')
})
afterEach(() => rmSync(directory, { recursive: true }))

/** A database of the first version, with one sandbox that owns two things. */
function firstVersion(): void {
  const db = new Database(path)
  db.exec(MIGRATIONS[0]?.up ?? '')
  db.pragma('user_version = 1')
  db.prepare('INSERT INTO sandboxes VALUES (?, ?, ?, ?, ?, ?, ?)').run(SANDBOX, 'n', '{}', 'h', 'RUNNING', '{}', 's')
  db.prepare('INSERT INTO network_settings VALUES (?, ?, ?)').run(SANDBOX, '[]', 's')
  const ledger = db.prepare('INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)')
  ledger.run(SANDBOX, 0, 'netns', 'held', '{}', 'boot', 's0')
  ledger.run(SANDBOX, 1, 'cni', 'releasing', '{}', 'boot', 's1')
  db.prepare('INSERT INTO node VALUES (?, ?)').run('written_by', '0.0.9')
  db.close()
}

function version(file = path): number {
  const db = new Database(file, { readonly: true })
  try {
    return Number(db.pragma('user_version', { simple: true }))
  } finally {
    db.close()
  }
}

function setVersion(to: number): void {
  const db = new Database(path)
  db.pragma(`user_version = ${to}`)
  db.close()
}

/** The statements that made what is in a database. */
function schema(): string[] {
  const db = new Database(path, { readonly: true })
  const rows = db.prepare<[], string>('SELECT sql FROM sqlite_master WHERE sql NOT NULL').pluck().all()
  db.close()
  return rows.map((sql) => sql.replaceAll(/--[^\n]*/g, '').replaceAll(/["\s]+/g, ' ')).toSorted()
}

/** What is in it, once it has been opened and closed. */
function open(): Loaded {
  const store = openStore(path, NOW)
  store.close()
  return store.loaded
}

const copies = (): string[] => readdirSync(directory).filter((name) => name.endsWith('.bak'))

describe('an older database', () => {
  it('is brought up to date with all that is in it, and kept as it was', () => {
    firstVersion()
    const loaded = open()
    expect(loaded.sandboxes.map(({ id }) => id)).toEqual([SANDBOX])
    expect(loaded.networks).toHaveLength(1)
    expect(loaded.ledger.map(({ owner_id, kind, state, seal }) => [owner_id, kind, state, seal])).toEqual([
      [SANDBOX, 'netns', 'held', 's0'],
      [SANDBOX, 'cni', 'releasing', 's1'],
    ])
    expect(loaded.containers).toEqual([])
    const copy = `${path}.v1.bak`
    expect(loaded.migrated).toEqual({ from: 1, to: SCHEMA_VERSION, copy })
    expect([version(), version(copy)]).toEqual([SCHEMA_VERSION, 1])
    expect(statSync(copy).mode & 0o777).toBe(0o600)
    expect(
      readdirSync(directory)
        .filter((name) => name.includes('.bak'))
        .toSorted(),
    ).toEqual(['sandboxerd.db.v1.bak'])
  })

  it('has the same schema then as a new one', () => {
    firstVersion()
    open()
    const brought = schema()
    rmSync(path)
    open()
    expect(brought).toEqual(schema())
  })

  it('is copied also where a copy was begun that did not end', () => {
    firstVersion()
    for (const suffix of ['', '-journal']) writeFileSync(`${path}.v1.bak.tmp${suffix}`, 'x'.repeat(8192))
    expect(open().migrated?.copy).toBe(`${path}.v1.bak`)
    expect(readdirSync(directory).filter((name) => name.includes('tmp'))).toEqual([])
  })

  it('is left alone, and nothing is set aside, when its copy cannot be written', () => {
    firstVersion()
    mkdirSync(`${path}.v1.bak`)
    writeFileSync(`${path}.v1.bak/x`, '')
    expect(() => openStore(path, NOW)).toThrow(/from schema version 1 to \d+: .*nothing was changed: make room/)
    expect(version()).toBe(1)
    expect(readdirSync(directory).filter((name) => /damaged|tmp/.test(name))).toEqual([])
    rmSync(`${path}.v1.bak`, { recursive: true })
    open()
    expect(version()).toBe(SCHEMA_VERSION)
  })

  it('that is damaged in a way that only its change shows is set aside, and no start ever fails for it', () => {
    firstVersion()
    const db = new Database(path)
    db.exec('CREATE TABLE containers (id TEXT)')
    db.close()
    const loaded = open()
    expect(loaded.setAside?.reason).toMatch(/containers already exists/)
    expect(loaded.sandboxes).toEqual([])
  })

  it.each([
    ['before', 0],
    ['later, by a clock that was set back since', Date.now() / 1000 + 3600],
  ])('keeps a few copies only, where others were made %s', (_when, since) => {
    firstVersion()
    for (const [at, old] of [7, 8, 9].entries()) {
      writeFileSync(`${path}.v${old}.bak`, '')
      utimesSync(`${path}.v${old}.bak`, since + at, since + at)
    }
    open()
    expect(copies().toSorted()).toEqual(['sandboxerd.db.v1.bak', 'sandboxerd.db.v8.bak', 'sandboxerd.db.v9.bak'])
  })

  it('is new, or of today: nothing is copied', () => {
    expect(open().migrated).toBeUndefined()
    expect(open().migrated).toBeUndefined()
    expect(copies()).toEqual([])
  })
})

it('one that somebody else has locked is not taken for damaged', { timeout: 60_000 }, () => {
  firstVersion()
  const other = new Database(path)
  other.pragma('locking_mode = EXCLUSIVE')
  other.exec('BEGIN EXCLUSIVE')
  try {
    expect(() => openStore(path, NOW)).toThrow(/database is locked; nothing was changed/)
  } finally {
    other.close()
  }
  expect(readdirSync(directory)).toEqual(['sandboxerd.db'])
  expect(open().setAside).toBeUndefined()
})

describe('a newer database', () => {
  it('is refused untouched, with the words that say what to install and what to run', () => {
    firstVersion()
    setVersion(SCHEMA_VERSION + 1)
    const why = `schema version ${SCHEMA_VERSION + 1} is newer than ${SCHEMA_VERSION}.*install the sandboxerd 0\\.0\\.9 again`
    expect(() => openStore(path, NOW)).toThrow(new RegExp(why))
    expect(() => openStore(path, NOW)).toThrow(`sandboxerd --prepare-downgrade ${SCHEMA_VERSION}`)
    expect(version()).toBe(SCHEMA_VERSION + 1)
    expect(readdirSync(directory).filter((name) => /damaged|bak/.test(name))).toEqual([])
  })
})

describe('prepareDowngrade', () => {
  it('goes back to the first version and up again, and nothing is lost', () => {
    firstVersion()
    const before = schema()
    open()
    const copy = `${path}.v${SCHEMA_VERSION}.bak`
    expect(prepareDowngrade(path, 1)).toEqual({ from: SCHEMA_VERSION, to: 1, copy })
    expect(version()).toBe(1)
    expect(schema()).toEqual(before)
    expect(prepareDowngrade(path, 1)).toBeUndefined()
    const loaded = open()
    expect(loaded.ledger.map(({ seq, state, seal }) => [seq, state, seal])).toEqual([
      [0, 'held', 's0'],
      [1, 'releasing', 's1'],
    ])
    expect(loaded.sandboxes).toHaveLength(1)
  })

  it('refuses what would lose something, names it, and changes nothing', () => {
    firstVersion()
    const store = openStore(path, NOW)
    const row = {
      id: CONTAINER,
      sandbox_id: SANDBOX,
      name: 'c',
      metadata: '{}',
      state: 'RUNNING',
      status: '{}',
      seal: 's',
    }
    const entry = {
      owner_id: CONTAINER,
      seq: 0,
      kind: 'container',
      state: 'held',
      record: '{}',
      boot_id: 'b',
      seal: 's',
    }
    store.commit([
      [
        { op: 'putContainer', row },
        { op: 'putLedger', row: entry },
      ],
    ])
    store.close()
    expect(() => prepareDowngrade(path, 1)).toThrow(
      new RegExp(
        `to schema version 1: schema version 1 cannot hold container ${CONTAINER}, container of ${CONTAINER};`,
      ),
    )
    expect(version()).toBe(SCHEMA_VERSION)
    const again = openStore(path, NOW)
    expect(again.loaded.containers).toHaveLength(1)
    again.close()
  })

  it.each([0, -1, 1.5])('refuses %s, which is no version', (to) => {
    expect(() => prepareDowngrade(path, to)).toThrow(/there is none/)
  })

  it('has nothing to do without a database, or for one that is older', () => {
    expect(prepareDowngrade(path, 1)).toBeUndefined()
    expect(readdirSync(directory)).toEqual([])
    firstVersion()
    expect(prepareDowngrade(path, 99)).toBeUndefined()
  })

  it('refuses a database that is damaged, or newer than this program', () => {
    firstVersion()
    setVersion(SCHEMA_VERSION + 1)
    expect(() => prepareDowngrade(path, 1)).toThrow(/is newer than/)
    writeFileSync(path, 'garbage'.repeat(1000))
    chmodSync(path, 0o600)
    expect(() => prepareDowngrade(path, 1)).toThrow(/nothing was changed/)
  })
})
