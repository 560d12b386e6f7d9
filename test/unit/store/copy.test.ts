import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readStoreCopy } from '../../../src/store/copy.ts'
import { openStore, type StoreFile } from '../../../src/store/database.ts'

let directory: string
let path: string
const open: StoreFile[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'store-copy-'))
  path = join(directory, 'sandboxerd.db')
})
afterEach(async () => {
  for (const file of open.splice(0)) file.close()
  await rm(directory, { recursive: true })
})

/** One that a daemon has open: what it wrote last is in the log beside it. */
function writeNode(value: string): void {
  const file = openStore(path, new Date())
  open.push(file)
  file.commit([[{ op: 'putNode', key: 'k', value }]])
}

async function files(): Promise<unknown> {
  const names = (await readdir(directory)).toSorted()
  return Promise.all(names.map(async (name) => [name, (await stat(join(directory, name))).mtimeMs]))
}

describe('readStoreCopy', () => {
  it('reads what a daemon has just committed, and changes no file', async () => {
    writeNode('v')
    const before = await files()
    expect((await readStoreCopy(path)).node['k']).toBe('v')
    expect(await files()).toEqual(before)
  })

  it('finds nothing where there is nothing, and makes nothing', async () => {
    expect(await readStoreCopy(path)).toMatchObject({ sandboxes: [], setAside: undefined })
    expect(await readdir(directory)).toEqual([])
  })

  it('tells that a database is damaged, and leaves it where it is', async () => {
    await writeFile(path, 'x'.repeat(8192))
    const { setAside, sandboxes } = await readStoreCopy(path)
    expect(setAside).toMatchObject({ path })
    expect(sandboxes).toEqual([])
    expect(await readdir(directory)).toEqual(['sandboxerd.db'])
    expect(await readFile(path, 'utf8')).toBe('x'.repeat(8192))
  })

  it('refuses what a newer version has written, by its own name', async () => {
    const newer = new Database(path)
    newer.pragma('user_version = 9999')
    newer.close()
    await expect(readStoreCopy(path)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining(`open ${path}: its schema version 9999`) as string,
    })
  })

  it('leaves no copy behind', async () => {
    const mine = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('sandboxerctl-'))
    const before = await mine()
    writeNode('v')
    await readStoreCopy(path)
    expect(await mine()).toEqual(before)
  })
})
