import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { run } from '../../src/host/programs/run.ts'
import { ownDaemons } from '../support/daemon.ts'
import { findShim } from '../support/peers.ts'
import { FrontEnd, frontEnds } from '../support/served-sandbox.ts'
import { slowed } from '../support/slowness.ts'
import { TestPod } from '../support/test-pod.ts'

const PURGE = fileURLToPath(new URL('../../dist/purge.js', import.meta.url))
const startDaemon = ownDaemons()
const frontEnd = frontEnds()

describe('dist/purge.js, which packages run when they are purged', () => {
  it('ends and removes every pod, container and served sandbox, whoever is gone meanwhile', async () => {
    const daemon = await startDaemon({ config: ({ dir }) => FrontEnd.config(dir) })
    for (const handler of ['crun', 'runc-pinned']) {
      const pod = await TestPod.run(daemon, handler, daemon.pod())
      await pod.start()
      await pod.create()
    }
    if (findShim() !== undefined) await frontEnd(daemon).run()
    await daemon.kill9()
    daemon.main = PURGE
    daemon.spawn()
    expect(await daemon.ended(), daemon.logs('newest')).toEqual({ code: 0, signal: null })
    // Of the machine; and then of the records.
    await daemon.expectNothingLeft()
    daemon.main = PURGE.replace('purge', 'main')
    await daemon.restart()
    expect(await daemon.client.list()).toEqual([])
    expect(await daemon.client.containers.list()).toEqual([])
  })

  it('leaves the pods of a daemon that runs', async () => {
    const daemon = await startDaemon()
    const id = await daemon.run(daemon.hostPod())
    const { exitCode, stderr } = await run(process.execPath, [PURGE, '--config', join(daemon.dir, 'config.toml')], {
      timeoutMs: slowed(30_000),
    })
    expect(stderr).toMatch(/^sandboxerd: lock .*: another sandboxerd uses this root directory$/m)
    expect(exitCode).toBe(1)
    expect(await daemon.client.list()).toMatchObject([{ id, state: 'SANDBOX_READY' }])
    await daemon.removeListed()
  })
})
