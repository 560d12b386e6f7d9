import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openStore } from '../../src/store/database.ts'
import { slowed } from '../support/slowness.ts'

const STORE = fileURLToPath(new URL('../../dist/store/store.js', import.meta.url))
const ROUNDS = 12

/** Makes and forgets sandboxes that own something, and prints the number of each as soon as it is on record. */
const CHURN = `(async () => {
const { Store } = await import(process.argv[1])
const { store, loaded } = await Store.open(process.argv[2])
const row = (id) => ({ id, name: id, metadata: '{}', checkpoint_hash: '', state: 'RUNNING', status: 'x'.repeat(2000), seal: '' })
const entry = (id, seq) => ({ owner_id: id, seq, kind: 'cni', state: 'held', record: '{}', boot_id: '', seal: '' })
for (const { id } of loaded.sandboxes) {
  const strike = [0, 1, 2].map((seq) => ({ op: 'deleteLedger', ownerId: id, seq }))
  await store.commit([...strike, { op: 'deleteSandbox', id }])
}
let next = Number(loaded.node.newest ?? 0)
const churn = async () => {
  for (;;) {
    const number = ++next
    const id = String(number)
    const entries = [0, 1, 2].map((seq) => ({ op: 'putLedger', row: entry(id, seq) }))
    await store.commit([{ op: 'putSandbox', row: row(id) }, ...entries, { op: 'putNode', key: 'newest', value: id }])
    process.stdout.write(id + '\\n')
    if (number % 2 === 0) continue
    await store.commit([...[0, 1, 2].map((seq) => ({ op: 'deleteLedger', ownerId: id, seq })), { op: 'deleteSandbox', id }])
  }
}
await Promise.all([churn(), churn(), churn(), churn()])
})()`

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sbx-churn-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

/** Lets it churn for a while, kills it, and returns the numbers that it has said to be on record. */
async function churn(path: string, ms: number): Promise<Set<number>> {
  const child = spawn(process.execPath, ['-e', CHURN, STORE, path])
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const closed = once(child, 'close')
  // It is on its way once it has said something.
  await Promise.race([once(child.stdout, 'data'), closed])
  await sleep(ms)
  child.kill('SIGKILL')
  await closed
  expect(errors).toBe('')
  return new Set(output.slice(0, output.lastIndexOf('\n')).split('\n').map(Number))
}

it('kill -9 in the middle of many writes loses nothing that was on record, and damages nothing', async () => {
  const path = join(directory, 'sandboxerd.db')
  // Somebody looks in from outside all the time, which holds up no write.
  await churn(path, 50)
  const reader = new Database(path, { readonly: true })
  try {
    reader.exec('BEGIN')
    reader.prepare('SELECT * FROM sandboxes').all()
    for (let round = 0; round < ROUNDS; round++) {
      const said = await churn(path, slowed(30 + round * 20))
      const store = openStore(path, new Date())
      store.close()
      const { sandboxes, ledger, node, setAside } = store.loaded
      expect(setAside).toBeUndefined()
      expect(said.size).toBeGreaterThan(5)
      expect(Number(node['newest'])).toBeGreaterThanOrEqual(Math.max(...said) - 4)
      // The even ones are kept; those of the rounds before are gone.
      const kept = new Set(sandboxes.map(({ id }) => Number(id)))
      expect([...said].filter((number) => number % 2 === 0 && !kept.has(number))).toEqual([])
      expect(ledger).toHaveLength(sandboxes.length * 3)
      expect(readdirSync(directory).filter((name) => name.includes('damaged'))).toEqual([])
    }
  } finally {
    reader.close()
  }
  const db = new Database(path)
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  db.close()
})
