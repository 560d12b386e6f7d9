import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sealCheckpoint } from '../../../src/checkpoint/checkpoint.ts'
import { newId } from '../../../src/core/ids.ts'
import { Sealer } from '../../../src/core/seal.ts'
import type { Records } from '../../../src/doctor/records.ts'
import { sandboxRows } from '../../../src/doctor/rows.ts'
import { loadSandboxes, nameless } from '../../../src/sandbox/load.ts'
import { Sandbox } from '../../../src/sandbox/sandbox.ts'
import { intents, type LedgerEntry } from '../../../src/store/ledger.ts'
import type { Change, Loaded, SandboxRow } from '../../../src/store/rows.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'

const NEVER = new AbortController().signal
const sealer = new Sealer(Buffer.alloc(32, 7))
const logger = pino({ level: 'silent' })
const BOOT = 'boot-1'

let root: string
let id: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sbx-doctor-'))
  id = newId(sealer)
  await mkdir(join(root, 'sandboxes', id), { recursive: true })
})
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

/** The database, as far as it is needed. */
class Rows {
  readonly sandboxes = new Map<string, SandboxRow>()
  readonly ledger = new Map<string, Loaded['ledger'][number]>()

  async commit(changes: readonly Change[]): Promise<void> {
    for (const change of changes) {
      if (change.op === 'putSandbox') this.sandboxes.set(change.row.id, change.row)
      if (change.op === 'putLedger') this.ledger.set(`${change.row.owner_id} ${change.row.seq}`, change.row)
    }
  }

  get loaded(): Loaded {
    const lists = { networks: [], containers: [], node: {}, setAside: undefined }
    return { ...lists, sandboxes: [...this.sandboxes.values()], ledger: [...this.ledger.values()] }
  }
}

const checkpointPath = (): string => join(root, 'sandboxes', id, 'checkpoint.json')

/** A sandbox that runs, with all that is on record of it. */
async function running(rows: Rows): Promise<void> {
  const metadata = { ...nameless(id), config: podConfig(), name: 'k8s_POD_web_default_uid-1_0' }
  const resources = [
    { kind: 'directory', record: { path: join(root, 'sandboxes', id) } },
    { kind: 'netns', record: { path: `/run/netns/sbx-${id}` } },
  ]
  const entries: LedgerEntry[] = intents(resources, id, BOOT).map((entry) => ({ ...entry, state: 'held' }))
  const checkpoint = sealCheckpoint(sealer, id, { metadata, bootId: BOOT, resources })
  await writeFile(checkpointPath(), checkpoint.text)
  const status = { state: 'RUNNING', visible: true, process: null, exit: null, steps: [], failure: '' } as const
  const record = { metadata, checkpointHash: checkpoint.hash, status, networks: [], entries, quarantined: '' }
  await new Sandbox(record, { store: rows, sealer, logger }).insert()
}

/** As after a start: what is on record is read again. */
function examine(rows: Rows) {
  const options = { roots: { root, state: root }, bootId: BOOT }
  const loaded = loadSandboxes(rows.loaded, options, { sealer, deriveResources: () => [] })
  const sandboxes = loaded.map(({ record }) => new Sandbox(record, { store: rows, sealer, logger }))
  const records: Records = {
    sandboxes: () => sandboxes,
    containers: () => [],
    isKnown: () => true,
    isOwn: () => true,
    examine: async () => sandboxes[0]?.quarantined ?? '',
  }
  return sandboxRows(options, { records, sealer }).look(NEVER)
}

async function repair(rows: Rows): Promise<string[]> {
  const suspicions = await examine(rows)
  for (const { repair: work, settle } of suspicions) {
    if (typeof work === 'string') continue
    await work(NEVER)
    await settle?.()
  }
  return suspicions.map(({ kind }) => kind)
}

describe('rows and checkpoints of sandboxes', () => {
  it('that hold are no findings', async () => {
    const rows = new Rows()
    await running(rows)
    expect(await examine(rows)).toEqual([])
  })

  it.each([
    ['a flipped byte', (text: string) => text.replace('"web"', '"wea"')],
    ['a cut', (text: string) => text.slice(0, -30)],
    ['nothing in it', () => ''],
  ])('a checkpoint with %s is written anew from the row', async (_, change) => {
    const rows = new Rows()
    await running(rows)
    await writeFile(checkpointPath(), change(await readFile(checkpointPath(), 'utf8')))
    expect(await repair(rows)).toEqual(['checkpoint-damaged'])
    expect(await repair(rows)).toEqual([])
    expect(await readFile(checkpointPath(), 'utf8')).toContain('"web"')
  })

  it('a checkpoint of a newer sandboxerd is no damage, and is left for that', async () => {
    const rows = new Rows()
    await running(rows)
    const newer = (await readFile(checkpointPath(), 'utf8')).replace('"version":1', '"version":2')
    await writeFile(checkpointPath(), newer)
    expect(await repair(rows)).toEqual(['checkpoint-newer'])
    expect(await readFile(checkpointPath(), 'utf8')).toBe(newer)
  })

  it.each([
    ['state', (row: SandboxRow) => ({ ...row, state: 'STOPPED' })],
    ['metadata', (row: SandboxRow) => ({ ...row, metadata: 'x' })],
    ['checkpoint_hash', (row: SandboxRow) => ({ ...row, checkpoint_hash: 'x' })],
  ])('a row with another %s is written anew from the checkpoint', async (_, change) => {
    const rows = new Rows()
    await running(rows)
    const row = rows.sandboxes.get(id)
    if (row) rows.sandboxes.set(id, change(row))
    expect(await repair(rows)).toEqual(['row-damaged'])
    expect(await repair(rows)).toEqual([])
    expect(rows.sandboxes.get(id)?.metadata).toContain('"web"')
  })

  it('a row of the ledger that was changed, or taken away, is there again', async () => {
    const rows = new Rows()
    await running(rows)
    const row = rows.ledger.get(`${id} 0`)
    if (row) rows.ledger.set(`${id} 0`, { ...row, record: '{"path":"/"}' })
    rows.ledger.delete(`${id} 1`)
    expect(await repair(rows)).toEqual(['row-damaged'])
    expect(await repair(rows)).toEqual([])
    expect([...rows.ledger.values()].map(({ kind }) => kind)).toEqual(['directory', 'netns'])
    expect(rows.ledger.get(`${id} 0`)?.record).toContain(id)
  })

  it('that are both damaged are told of, and nobody makes anything up', async () => {
    const rows = new Rows()
    await running(rows)
    const row = rows.sandboxes.get(id)
    if (row) rows.sandboxes.set(id, { ...row, metadata: 'x' })
    await rm(checkpointPath())
    expect(await repair(rows)).toEqual(['record-lost'])
    expect(await repair(rows)).toEqual(['record-lost'])
    expect(rows.sandboxes.get(id)?.metadata).toBe('x')
  })
})
