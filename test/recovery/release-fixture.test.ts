import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { checkFixture } from '../support/release-fixture.ts'
import { factsOf, type ReleaseFacts } from '../support/releases.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

/** Where scripts/make-release-fixture.sh wants it. */
const WANTED = process.env['SANDBOXERD_RELEASE_FIXTURE'] ?? ''

/** Pods and containers in all states that last. */
async function populate(daemon: TestDaemon): Promise<void> {
  const { client } = daemon
  const pod = await TestPod.run(daemon, 'crun', daemon.pod({ labels: { app: 'ü' }, annotations: { a: 'b\nc' } }))
  await pod.start({ env: { A: 'b\nc' }, labels: { tier: 'web' } })
  await pod.create()
  await pod.run('exit 3')
  const pinned = await TestPod.run(daemon, 'runc-pinned', daemon.hostPod())
  await pinned.start()
  const stopped = await TestPod.run(daemon, 'crun', daemon.pod())
  await stopped.start()
  await client.stop(stopped.id)
}

/** What the daemon tells of all that, and what its ledger has. */
async function facts({ client, database }: TestDaemon): Promise<ReleaseFacts> {
  const db = new Database(database, { readonly: true })
  const schema = Number(db.pragma('user_version', { simple: true }))
  const rows = db
    .prepare<[], { owner_id: string; kind: string; state: string }>('SELECT * FROM ledger ORDER BY seq')
    .all()
  db.close()
  const ledger: Record<string, string[]> = {}
  for (const { owner_id: owner, kind, state } of rows) (ledger[owner] ??= []).push(`${kind} ${state}`)
  const pods = await Promise.all(
    (await client.list()).map(async ({ id, state }) => {
      const { network } = await client.status(id)
      const ips = [network?.ip ?? '', ...(network?.additional_ips ?? []).map(({ ip }) => ip)].filter((ip) => ip !== '')
      return { id, state, ips }
    }),
  )
  const containers = await Promise.all(
    (await client.containers.list()).map(async ({ id, pod_sandbox_id: podId, state }) => {
      return { id, podId, state, exitCode: (await client.containers.status(id)).exit_code }
    }),
  )
  return { schema, pods, containers, ledger }
}

/** Takes what lasts of a daemon that was killed: its database, its key, and its sealed files. */
function take({ dir, database }: TestDaemon, to: string): void {
  const root = join(dir, 'root')
  mkdirSync(to, { recursive: true })
  for (const suffix of ['', '-wal']) {
    if (existsSync(database + suffix)) cpSync(database + suffix, join(to, `sandboxerd.db${suffix}`))
  }
  // What is in the write-ahead log goes into the database.
  const copy = new Database(join(to, 'sandboxerd.db'))
  copy.pragma('wal_checkpoint(TRUNCATE)')
  copy.close()
  cpSync(join(root, 'checkpoint.key'), join(to, 'checkpoint.key'))
  for (const kind of ['sandboxes', 'containers']) {
    for (const id of readdirSync(join(root, kind))) {
      for (const file of readdirSync(join(root, kind, id)).filter((name) => name.endsWith('.json'))) {
        const path = join(to, kind, id, file)
        mkdirSync(dirname(path), { recursive: true })
        writeFileSync(path, readFileSync(join(root, kind, id, file)))
      }
    }
  }
}

it('what this version writes is what it reads, and can be the fixture of a release', async () => {
  const daemon = await start()
  await populate(daemon)
  const told = await facts(daemon)
  const dir = mkdtempSync(join(tmpdir(), 'sbx-fixture-'))
  try {
    await daemon.kill9()
    take(daemon, dir)
    writeFileSync(join(dir, 'facts.json'), `${JSON.stringify(told, null, 2)}\n`)
    await daemon.restart()
    await daemon.removeListed()
    expect(told.pods.map(({ state }) => state).toSorted()).toEqual([
      'SANDBOX_NOTREADY',
      'SANDBOX_READY',
      'SANDBOX_READY',
    ])
    expect(told.containers).toHaveLength(5)
    checkFixture(dir, factsOf({ version: '', dir }))
    if (WANTED !== '') cpSync(dir, WANTED, { recursive: true })
  } finally {
    rmSync(dir, { recursive: true })
  }
})
