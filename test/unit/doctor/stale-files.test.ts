import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { damagedDatabases, staleFiles } from '../../../src/doctor/stale-files.ts'

const NEVER = new AbortController().signal
const NOW_MS = Date.parse('2026-11-21T12:00:00Z')

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sbx-doctor-'))
})
afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

describe('stale files', () => {
  it('are those whose writing cannot be under way any more', async () => {
    for (const name of ['old.tmp', 'old.tmp-journal', 'new.tmp', 'old.json']) await writeFile(join(dir, name), '')
    for (const name of ['old.tmp', 'old.tmp-journal', 'old.json'])
      await utimes(join(dir, name), 1, NOW_MS / 1000 - 7200)
    await utimes(join(dir, 'new.tmp'), 1, NOW_MS / 1000 - 60)
    const check = staleFiles(
      async () => [dir, join(dir, 'missing')],
      () => NOW_MS,
    )
    const found = await check.look(NEVER)
    const subjects = ['old.tmp', 'old.tmp-journal'].map((name) => join(dir, name))
    expect(found.map(({ subject }) => subject).toSorted()).toEqual(subjects)
    for (const { repair } of found) if (typeof repair === 'function') await repair(NEVER)
    expect((await readdir(dir)).toSorted()).toEqual(['new.tmp', 'old.json'])
    expect(await Promise.all(found.map(({ isStill }) => isStill()))).toEqual([false, false])
  })
})

describe('databases that were set aside', () => {
  it('are kept for a week', async () => {
    const names = [
      'sandboxerd.db',
      'sandboxerd.db.damaged-2026-11-10T10-00-00-000Z',
      'sandboxerd.db.damaged-2026-11-10T10-00-00-000Z-wal',
      'sandboxerd.db.damaged-2026-11-20T10-00-00-000Z',
      'sandboxerd.db.damaged-by-hand',
    ]
    for (const name of names) await writeFile(join(dir, name), '')
    const found = await damagedDatabases(dir, () => NOW_MS).look(NEVER)
    expect(found.map(({ subject }) => subject).toSorted()).toEqual(names.slice(1, 3).map((name) => join(dir, name)))
  })
})
