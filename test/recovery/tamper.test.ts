import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import type { PodSandboxConfig } from '../../src/generated/runtime/v1/PodSandboxConfig.ts'
import { ownDaemons, type TestDaemon } from '../support/daemon.ts'

const start = ownDaemons()

const checkpointOf = ({ dir }: TestDaemon, id: string): string => join(dir, 'root', 'sandboxes', id, 'checkpoint.json')

async function edit(path: string, change: (text: string) => string): Promise<void> {
  const before = await readFile(path, 'utf8')
  const after = change(before)
  if (after === before) throw new Error(`${path}: nothing was changed`)
  await writeFile(path, after)
}

/** Changes the database of a daemon that does not run. */
function sql(daemon: TestDaemon, ...statements: readonly string[]): void {
  const db = new Database(daemon.database)
  try {
    let changes = 0
    for (const statement of statements) changes += db.prepare(statement).run().changes
    if (changes === 0) throw new Error(`nothing was changed: ${statements.join('; ')}`)
  } finally {
    db.close()
  }
}

interface Tampering {
  readonly what: string
  readonly how: (daemon: TestDaemon, id: string) => unknown
  /** What the verbose status gives as the reason. */
  readonly reason: RegExp
}

const TAMPERINGS: readonly Tampering[] = [
  {
    what: 'a letter of the checkpoint',
    how: (daemon, id) =>
      edit(checkpointOf(daemon, id), (text) => text.replace('"namespace":"test"', '"namespace":"tesu"')),
    reason: /checkpoint.*hash does not match/,
  },
  {
    what: 'data and hash of the checkpoint',
    how: (daemon, id) => edit(checkpointOf(daemon, id), (text) => text.replace(/"hash":"./, '"hash":"g')),
    reason: /checkpoint.*hash does not match/,
  },
  {
    what: 'the end of the checkpoint',
    how: (daemon, id) => edit(checkpointOf(daemon, id), (text) => text.slice(0, -20)),
    reason: /checkpoint.*not JSON/,
  },
  {
    what: 'the format version of the checkpoint, to that of a newer sandboxerd',
    how: (daemon, id) => edit(checkpointOf(daemon, id), (text) => text.replace(/"version":1}\n$/, '"version":2}\n')),
    reason: /checkpoint.*format version 2 is newer than 1/,
  },
  {
    what: 'the checkpoint, which is deleted',
    how: (daemon, id) => rm(checkpointOf(daemon, id)),
    reason: /checkpoint.*no such file/,
  },
  {
    what: 'the state in the row',
    how: (daemon, id) => sql(daemon, `UPDATE sandboxes SET state = 'STOPPED' WHERE id = '${id}'`),
    reason: /row of sandboxes.*seal/,
  },
  {
    what: 'the metadata in the row',
    how: (daemon, id) =>
      sql(daemon, `UPDATE sandboxes SET metadata = replace(metadata, '"test"', '"tesu"') WHERE id = '${id}'`),
    reason: /row of sandboxes.*seal/,
  },
  {
    what: 'the pid in the row',
    how: (daemon, id) =>
      sql(daemon, `UPDATE sandboxes SET status = replace(status, '"pid":', '"pid":1') WHERE id = '${id}'`),
    reason: /row of sandboxes.*seal/,
  },
  {
    what: 'metadata and status, which are no JSON',
    how: (daemon, id) => sql(daemon, `UPDATE sandboxes SET metadata = 'x', status = 'y' WHERE id = '${id}'`),
    reason: /row of sandboxes.*seal/,
  },
  {
    what: 'the network settings',
    how: (daemon, id) =>
      sql(
        daemon,
        `UPDATE network_settings SET settings = replace(settings, '10.64', '10.65') WHERE sandbox_id = '${id}'`,
      ),
    reason: /network_settings.*seal/,
  },
  {
    what: 'the record of a ledger row',
    how: (daemon, id) =>
      sql(daemon, `UPDATE ledger SET record = '{"path":"/"}' WHERE kind = 'directory' AND owner_id = '${id}'`),
    reason: /ledger.*directory.*seal/,
  },
  {
    what: 'the cni record of the ledger',
    how: (daemon, id) => sql(daemon, `UPDATE ledger SET record = '{}' WHERE kind = 'cni' AND owner_id = '${id}'`),
    reason: /ledger.*cni.*seal/,
  },
  {
    what: 'a ledger row, which is deleted',
    how: (daemon, id) => sql(daemon, `DELETE FROM ledger WHERE kind = 'netns' AND owner_id = '${id}'`),
    reason: /ledger.*netns/,
  },
  {
    what: 'all ledger rows, which are deleted',
    how: (daemon, id) => sql(daemon, `DELETE FROM ledger WHERE owner_id = '${id}'`),
    reason: /ledger/,
  },
  {
    what: 'the row of another sandbox, which is put in its place',
    how: (daemon, id) =>
      sql(
        daemon,
        `UPDATE sandboxes SET status = (SELECT status FROM sandboxes WHERE id <> '${id}') WHERE id = '${id}'`,
      ),
    reason: /row of sandboxes.*seal/,
  },
  {
    what: 'row and checkpoint together',
    how: async (daemon, id) => {
      sql(daemon, `UPDATE sandboxes SET metadata = 'x' WHERE id = '${id}'`)
      await rm(checkpointOf(daemon, id))
    },
    reason: /checkpoint/,
  },
]

/** What a record looks like matters to one kind of tampering each; a few show that pinned pods are no different. */
const CASES = [
  ...TAMPERINGS.map((tampering) => ({ ...tampering, handler: 'crun' })),
  ...TAMPERINGS.filter(({ what }) => /^(the checkpoint|the state|all ledger)/.test(what)).map((tampering) => ({
    ...tampering,
    handler: 'crun-pinned',
  })),
]

describe('somebody changes, of a pod,', () => {
  it.each(CASES)(
    '$what ($handler): it is seen, said, and the pod can be stopped and removed',
    async ({ how, reason, handler }) => {
      const daemon = await start()
      const [victim, other] = [await daemon.run(daemon.pod(), handler), await daemon.run(daemon.pod(), handler)]
      const before = await daemon.client.status(other)
      const { pid } = await daemon.client.info(victim)
      await daemon.kill9()
      await how(daemon, victim)
      await daemon.restart()

      const states = (await daemon.client.list()).map(({ id, state }) => `${id} ${state}`)
      expect(states.toSorted()).toEqual([`${victim} SANDBOX_NOTREADY`, `${other} SANDBOX_READY`].toSorted())
      expect((await daemon.client.info(victim)).quarantined).toMatch(reason)
      expect(daemon.logs('newest')).toContain('quarantined')
      // Not trusted is not dead: nothing was done to it.
      expect(process.kill(pid, 0)).toBe(true)
      expect(await daemon.client.status(other)).toEqual(before)

      await daemon.client.stop(victim)
      await daemon.client.remove(victim)
      expect(await daemon.client.status(other)).toEqual(before)
      await daemon.removeListed()
    },
  )
})

interface DatabaseLoss {
  readonly what: string
  readonly how: (path: string) => void
}

const wal = (path: string): void => {
  for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true })
}
const LOSSES: readonly DatabaseLoss[] = [
  {
    what: 'is cut short',
    how: (path) => {
      wal(path)
      truncateSync(path, 5000)
    },
  },
  {
    what: 'is empty',
    how: (path) => {
      wal(path)
      truncateSync(path, 0)
    },
  },
  {
    what: 'is garbage',
    how: (path) => {
      wal(path)
      writeFileSync(path, 'garbage '.repeat(10_000))
    },
  },
  {
    what: 'is gone',
    how: (path) => {
      wal(path)
      rmSync(path)
    },
  },
]

describe('a database that', () => {
  it.each(LOSSES)('$what is made anew: pods are as they were', async ({ how }) => {
    const daemon = await start()
    const ids = [await daemon.run(daemon.pod(), 'runc'), await daemon.run(daemon.pod(), 'crun-pinned')]
    const hostPod = await daemon.run(daemon.hostPod(), 'crun')
    const before = (await daemon.client.list()).toSorted((a, b) => a.id.localeCompare(b.id))
    const ips = await Promise.all(ids.map(async (id) => (await daemon.client.status(id)).network))
    const pids = await Promise.all(ids.map(async (id) => (await daemon.client.info(id)).pid))
    await daemon.kill9()
    how(daemon.database)
    await daemon.restart()
    expect((await daemon.client.list()).toSorted((a, b) => a.id.localeCompare(b.id))).toEqual(before)
    expect(await Promise.all(ids.map(async (id) => (await daemon.client.status(id)).network))).toEqual(ips)
    expect(await Promise.all(ids.map(async (id) => (await daemon.client.info(id)).pid))).toEqual(pids)
    expect((await daemon.client.info(hostPod)).quarantined).toBe('')
    const later = await daemon.run()
    expect(BigInt((await daemon.client.status(later)).created_at)).toBeGreaterThan(BigInt(before[0]?.created_at ?? 0))
    await daemon.restart()
    expect((await daemon.client.list()).map(({ state }) => state)).toEqual(Array(4).fill('SANDBOX_READY'))
    await daemon.removeListed()
  })

  it('was set aside is kept for people to look at', async () => {
    const daemon = await start()
    await daemon.kill9()
    LOSSES[2]?.how(daemon.database)
    await daemon.restart()
    const names = await readdir(join(daemon.dir, 'root'))
    const [aside = ''] = names.filter((name) => name.startsWith('sandboxerd.db.damaged-'))
    expect(await readFile(join(daemon.dir, 'root', aside), 'utf8')).toMatch(/^garbage/)
  })

  it('is of a newer sandboxerd is not touched: the daemon refuses to start', async () => {
    const daemon = await start()
    expect(await daemon.stop()).toBe(0)
    const db = new Database(daemon.database)
    db.pragma('user_version = 99')
    db.close()
    daemon.spawn()
    expect(await daemon.ended()).toMatchObject({ code: 1 })
    expect(daemon.logs('newest')).toMatch(/newer/)
    expect(await readdir(join(daemon.dir, 'root'))).toContain('sandboxerd.db')
  })
})

describe('a node that has lost', () => {
  // When every record of a pod is lost, nobody can tell whose the parents of its cgroup were: here they are the default.
  const plainPod = (daemon: TestDaemon): PodSandboxConfig => ({ ...daemon.pod(), linux: null })

  it('database and checkpoints can still be rid of its pods', async () => {
    const daemon = await start()
    const ids = [await daemon.run(plainPod(daemon), 'crun'), await daemon.run(plainPod(daemon), 'runc')]
    await daemon.kill9()
    LOSSES[3]?.how(daemon.database)
    for (const id of ids) await rm(checkpointOf(daemon, id))
    await daemon.restart()
    const states = (await daemon.client.list()).map(({ id, state }) => `${id} ${state}`)
    expect(states.toSorted()).toEqual(ids.map((id) => `${id} SANDBOX_NOTREADY`).toSorted())
    expect((await daemon.client.info(ids[0] ?? '')).quarantined).toMatch(/checkpoint/)
    await daemon.removeListed()
  })

  it('its checkpoint key trusts none of its pods, and can be rid of them', async () => {
    const daemon = await start()
    const ids = [await daemon.run(plainPod(daemon), 'crun'), await daemon.run(plainPod(daemon), 'crun-pinned')]
    await daemon.kill9()
    await rm(join(daemon.dir, 'root', 'checkpoint.key'))
    await daemon.restart()
    for (const id of ids) {
      expect((await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
      expect((await daemon.client.info(id)).quarantined).toMatch(/seal/)
    }
    await daemon.run()
    await daemon.removeListed()
  })
})
