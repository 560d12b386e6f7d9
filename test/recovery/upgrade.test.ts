import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runOk } from '../../src/host/programs/run.ts'
import { parseLog, text } from '../support/container-log.ts'
import { MAIN, ownDaemons, SHIM_HANDLERS, type TestDaemon } from '../support/daemon.ts'
import { buildRelease, type BuiltRelease, lastRelease } from '../support/releases.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()
const release = await lastRelease()
let old: BuiltRelease
beforeAll(async () => {
  if (release) old = await buildRelease(release.commit)
})
afterAll(() => old?.[Symbol.dispose]())

const HANDLERS = ['crun', 'runc-pinned', ...SHIM_HANDLERS]
const COUNTS = 'i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done'

/** What the front tells of pods and containers, but for what changes by itself. */
async function told({ client }: TestDaemon): Promise<unknown> {
  const [pods, containers] = await Promise.all([client.list(), client.containers.list()])
  return {
    pods: await Promise.all(pods.map(({ id }) => client.status(id))),
    containers: await Promise.all(containers.map(({ id }) => client.containers.status(id))),
    pids: await Promise.all(pods.map(async ({ id }) => (await client.info(id)).pid)),
  }
}

/** Every container that runs answers. */
async function expectAlive({ client }: TestDaemon): Promise<void> {
  for (const { id, state } of await client.containers.list()) {
    if (state === 'CONTAINER_RUNNING') expect(await client.containers.shell(id, 'echo alive')).toBe('alive')
  }
}

/** A container that counts has written each number to its log, once. */
async function expectWholeLog({ client }: TestDaemon, id: string): Promise<void> {
  const { log_path: path } = await client.containers.status(id)
  const numbers = text(parseLog(readFileSync(path, 'utf8')), 'stdout')
    .trim()
    .split('\n')
    .map(Number)
  expect(numbers).toEqual(numbers.map((_, at) => at + 1))
}

/** A pod with a container that counts, one that waits for its start, and one that has ended. */
async function populate(daemon: TestDaemon, handler: string): Promise<{ podId: string; counting: string }> {
  const pod = await TestPod.run(daemon, handler, daemon.pod())
  const counting = await pod.start({ command: ['/bin/sh', '-c', COUNTS] })
  await pod.create()
  await pod.run('exit 3')
  return { podId: pod.id, counting }
}

/** Replaces the daemon by another version of it, the way a package does: the pods go on. */
async function change(daemon: TestDaemon, main: string, schema?: number): Promise<void> {
  await daemon.kill9()
  if (schema !== undefined) {
    const config = join(daemon.dir, 'config.toml')
    await runOk(process.execPath, [MAIN, '--prepare-downgrade', String(schema), '--config', config], {
      timeoutMs: 20_000,
    })
  }
  daemon.main = main
  await daemon.restart()
}

describe.skipIf(!release)(`from ${release?.version ?? 'the last release'} to this version, and back`, () => {
  it('no pod or container is lost or hurt, and all of them can be told, entered, stopped and removed', async () => {
    const daemon = await start({ main: old.main })
    const made = []
    for (const handler of HANDLERS) made.push(await populate(daemon, handler))
    const before = await told(daemon)

    await change(daemon, MAIN)
    expect(await told(daemon)).toEqual(before)
    await expectAlive(daemon)
    const newer = await populate(daemon, 'crun')
    const withNewer = await told(daemon)

    await change(daemon, old.main, old.schema)
    expect(await told(daemon)).toEqual(withNewer)
    await expectAlive(daemon)
    await expectWholeLog(daemon, newer.counting)
    // The older one can be rid of what the newer one has made; the other way round at the end.
    await daemon.client.stop(newer.podId)
    await daemon.client.remove(newer.podId)
    const rest = await told(daemon)

    await change(daemon, MAIN)
    expect(await told(daemon)).toEqual(rest)
    await expectAlive(daemon)
    await sleep(200)
    for (const { counting } of made) await expectWholeLog(daemon, counting)
    for (const { id, state } of await daemon.client.containers.list()) {
      if (state === 'CONTAINER_CREATED') await daemon.client.containers.start(id)
    }
    await expectAlive(daemon)
    await daemon.removeListed()
  })
})
