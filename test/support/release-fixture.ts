import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { loadContainers } from '../../src/container/load.ts'
import { Sealer } from '../../src/core/seal.ts'
import { loadSandboxes } from '../../src/sandbox/load.ts'
import { sandboxIps } from '../../src/cni/result.ts'
import { openStore } from '../../src/store/database.ts'
import type { Loaded } from '../../src/store/rows.ts'
import { SCHEMA_VERSION } from '../../src/store/schema.ts'
import type { ReleaseFacts } from './releases.ts'

const NOTHING: Loaded = { sandboxes: [], networks: [], containers: [], ledger: [], node: {}, setAside: undefined }
/** States as the CRI has them, by those on record. */
const POD_STATES: Readonly<Record<string, string>> = { RUNNING: 'SANDBOX_READY' }

/** Every row, seal and checkpoint of a fixture is read by this version, and says what the facts say. */
export function checkFixture(fixture: string, facts: ReleaseFacts): void {
  const root = mkdtempSync(join(tmpdir(), 'sbx-upgrade-'))
  try {
    cpSync(fixture, root, { recursive: true })
    const path = join(root, 'sandboxerd.db')
    const store = openStore(path, new Date())
    store.close()
    expect(store.loaded.setAside).toBeUndefined()
    expect(existsSync(`${path}.v${facts.schema}.bak`)).toBe(facts.schema < SCHEMA_VERSION)
    checkRows(root, store.loaded, facts)
    checkCheckpoints(root, facts)
  } finally {
    rmSync(root, { recursive: true })
  }
}

function load(root: string, loaded: Loaded) {
  const sealer = new Sealer(readFileSync(join(root, 'checkpoint.key')))
  const options = { roots: { root, state: join(root, 'state') }, bootId: 'another boot' }
  const deriveResources = (): never => {
    throw new Error('the records of the fixture are not all there')
  }
  return {
    sandboxes: loadSandboxes(loaded, options, { sealer, deriveResources }),
    containers: loadContainers(loaded, options, { sealer, deriveResources }),
  }
}

const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1)

function checkRows(root: string, rows: Loaded, facts: ReleaseFacts): void {
  const { sandboxes, containers } = load(root, rows)
  expect([...sandboxes, ...containers].map(({ record, hasRow }) => [record.quarantined, hasRow])).toEqual(
    [...sandboxes, ...containers].map(() => ['', true]),
  )
  const pods = sandboxes.map(({ record: { metadata, status, networks } }) => ({
    id: metadata.id,
    state: POD_STATES[status.state] ?? 'SANDBOX_NOTREADY',
    ips: metadata.netMode === 'host' ? [] : networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName)),
  }))
  expect(pods.toSorted(byId)).toEqual(facts.pods.toSorted(byId))
  const found = containers.map(({ record: { metadata, status } }) => ({
    id: metadata.id,
    podId: metadata.sandboxId,
    state: `CONTAINER_${status.state}`,
    exitCode: status.exit?.code ?? 0,
  }))
  expect(found.toSorted(byId)).toEqual(facts.containers.toSorted(byId))
  const owned = [...sandboxes, ...containers].map(
    ({ record }) => [record.metadata.id, record.entries.map(({ kind, state }) => `${kind} ${state}`)] as const,
  )
  expect(Object.fromEntries(owned.filter(([, entries]) => entries.length > 0))).toEqual(facts.ledger)
}

/** The second source: what is known when the database is lost. */
function checkCheckpoints(root: string, facts: ReleaseFacts): void {
  const { sandboxes, containers } = load(root, NOTHING)
  const found = [...sandboxes, ...containers].map(({ record }) => ({ id: record.metadata.id, why: record.quarantined }))
  const told = [...facts.pods, ...facts.containers].map(({ id }) => ({ id, why: '' }))
  expect(found.toSorted(byId)).toEqual(told.toSorted(byId))
  for (const { record } of sandboxes) {
    const pod = facts.pods.find(({ id }) => id === record.metadata.id)
    expect(record.networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName))).toEqual(pod?.ips)
  }
}
