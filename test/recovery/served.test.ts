import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/core/errors.ts'
import { type DaemonOptions, ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { findShim } from '../support/peers.ts'
import { eventually } from '../support/pod-facts.ts'
import { FrontEnd, frontEnds } from '../support/served-sandbox.ts'
import { beforeAndAfter } from '../support/steps.ts'

const startDaemon = ownDaemons()
const frontEnd = frontEnds()

async function setUp(options: DaemonOptions & { ttl?: number } = {}): Promise<{ daemon: TestDaemon; front: FrontEnd }> {
  const { ttl, ...rest } = options
  const more = ttl === undefined ? {} : { created_ttl: ttl }
  const daemon = await startDaemon({ config: ({ dir }) => FrontEnd.config(dir, more), ...rest })
  return { daemon, front: frontEnd(daemon) }
}

/** The call fails because the daemon dies in it. */
async function dies(daemon: TestDaemon, call: Promise<unknown>): Promise<void> {
  const [outcome] = await Promise.allSettled([call])
  expect(outcome.status).toBe('rejected')
  expect(await daemon.ended()).toEqual({ code: null, signal: 'SIGKILL' })
}

async function isGone(front: FrontEnd, id: string, ms = 15_000): Promise<void> {
  const code = await eventually(
    () =>
      front.client.status(id).then(
        () => '',
        (error: unknown) => errorCode(error),
      ),
    (found) => found === 'NotFound',
    ms,
  )
  expect(code).toBe('NotFound')
  expect(existsSync(front.places(id).files)).toBe(false)
}

const CREATE_STEPS = [
  'updateSandboxConfig',
  'prepareSandboxCheckpoint',
  'recordIntent',
  'createSandbox',
  'writeSandboxFiles',
  'createController',
]
const START_STEPS = ['startController', 'save']
const KINDS = ['controller', 'frontend', 'shm', 'directory']

describe.skipIf(!findShim())('kill -9', () => {
  it.each(beforeAndAfter('run', CREATE_STEPS))(
    'in Create, at %s, leaves what its front end can have or remove',
    async (point) => {
      const { daemon, front } = await setUp({ failpoints: `${point}=kill` })
      const request = front.request()
      await dies(daemon, front.client.create(request))
      await daemon.restart()
      // What was to be made may be known or not; whatever it is, it can be started whole, or created.
      const known = await front.client.status(request.id).then(
        ({ ready }) => !ready,
        () => false,
      )
      if (!known) await front.client.create(request)
      expect((await front.client.start(request.id)).pid).toBeGreaterThan(1)
      expect(await front.client.status(request.id)).toMatchObject({ ready: true })
      await front.client.shutdown(request.id)
    },
  )

  it.each(beforeAndAfter('run', START_STEPS))('in Start, at %s, does so, too', async (point) => {
    const { daemon, front } = await setUp({ failpoints: `${point}=kill` })
    const request = front.request()
    await front.client.create(request)
    await dies(daemon, front.client.start(request.id))
    await daemon.restart()
    const { pid } = await front.client.start(request.id)
    expect(await front.client.status(request.id)).toMatchObject({ ready: true, pid })
    await front.client.stop(request.id)
    await front.client.shutdown(request.id)
  })

  it.each(['stop.ended'])('in Stop, at %s, keeps the exit', async (point) => {
    const { daemon, front } = await setUp({ failpoints: `${point}=kill` })
    const id = await front.run()
    await dies(daemon, front.client.stop(id))
    await daemon.restart()
    expect((await front.client.wait(id)).exitStatus).toBe(0)
    await front.client.shutdown(id)
  })

  it.each(['remove.marked', 'remove.released', ...beforeAndAfter('release', KINDS)])(
    'in Shutdown, at %s, is made good',
    async (point) => {
      const { daemon, front } = await setUp({ failpoints: `${point}=kill` })
      const id = await front.run()
      await dies(daemon, front.client.shutdown(id))
      await daemon.restart()
      await isGone(front, id)
      await front.client.shutdown(id)
    },
  )
})

describe.skipIf(!findShim())('after a restart', () => {
  it('sandboxes are what they were, and Wait is answered by the next daemon', async () => {
    const { daemon, front } = await setUp()
    const [running, stopped, created] = [await front.run(), await front.run(), front.request()]
    await front.client.create(created)
    await front.client.stop(stopped)
    const exit = await front.client.wait(stopped)
    const before = await front.client.status(running)
    const held = expect(front.client.wait(running)).rejects.toMatchObject({ code: 'Unavailable' })
    await daemon.kill9()
    await held
    await daemon.restart()

    expect(await front.client.status(running)).toEqual(before)
    expect(await front.client.wait(stopped)).toEqual(exit)
    expect(await front.client.status(created.id)).toMatchObject({ ready: false })
    expect((await front.client.start(created.id)).pid).toBeGreaterThan(1)
    expect(await daemon.client.list()).toEqual([])

    const again = front.client.wait(running)
    await front.client.stop(running)
    expect((await again).exitStatus).toBe(0)
    for (const id of [running, stopped, created.id]) await front.client.shutdown(id)
  })

  it('one that has ended meanwhile is told ended', async () => {
    const { daemon, front } = await setUp()
    const id = await front.run()
    const { pid } = await front.client.status(id)
    await daemon.kill9()
    process.kill(pid, 'SIGKILL')
    await sleep(300)
    await daemon.restart()
    expect((await front.client.wait(id)).exitStatus).toBe(137)
    expect(await front.client.status(id)).toMatchObject({ ready: false })
    await front.client.shutdown(id)
  })

  it('of the node, all have ended', async () => {
    const { daemon, front } = await setUp()
    const id = await front.run()
    const created = front.request()
    await front.client.create(created)
    await daemon.reboot('00000000-0000-4000-8000-000000000001')
    expect((await front.client.wait(id)).exitStatus).toBe(255)
    expect(await front.client.status(id)).toMatchObject({ ready: false })
    await expect(front.client.start(created.id)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    for (const one of [id, created.id]) await front.client.shutdown(one)
  })

  it('that follows the loss of the database, they are found by their checkpoints', async () => {
    const { daemon, front } = await setUp()
    const id = await front.run()
    const { pid } = await front.client.status(id)
    await daemon.kill9()
    for (const suffix of ['', '-wal', '-shm']) await rm(`${daemon.database}${suffix}`, { force: true })
    await daemon.restart()
    expect(await daemon.client.list()).toEqual([])
    expect(await front.client.status(id)).toMatchObject({ ready: true, pid })
    await front.client.shutdown(id)
    expect(existsSync(join(daemon.dir, 'root', 'sandboxes', id))).toBe(false)
  })
})

describe.skipIf(!findShim())('what nobody comes for', () => {
  it('after Create is collected, also after a restart', async () => {
    const { daemon, front } = await setUp({ ttl: 3 })
    const [first, second] = [front.request(), front.request()]
    await front.client.create(first)
    await isGone(front, first.id)
    await front.client.create(second)
    await daemon.restart()
    await isGone(front, second.id)
  })

  it('after a Start that was not answered is collected, and what was answered never is', async () => {
    const { daemon, front } = await setUp({ ttl: 3, failpoints: 'run.save.after=1*kill' })
    const request = front.request()
    await front.client.create(request)
    await dies(daemon, front.client.start(request.id))
    await daemon.restart()
    // To ask would be to claim it.
    const { id } = request
    await daemon.logged('nobody has come for the sandbox')
    await isGone(front, id)

    const kept = await front.run()
    await front.client.status(kept)
    // What is noted behind the answer is on disk by then.
    await sleep(500)
    await daemon.restart()
    await sleep(4000)
    expect(await front.client.status(kept)).toMatchObject({ ready: true })
    await front.client.shutdown(kept)
  })

  it('is not what is started just when its time ends', async () => {
    const { front } = await setUp({ ttl: 2, failpoints: 'run.startController.before=delay(4000)' })
    const request = front.request()
    await front.client.create(request)
    await front.client.start(request.id)
    await sleep(1000)
    expect(await front.client.status(request.id)).toMatchObject({ ready: true })
    await front.client.shutdown(request.id)
  })

  it('after a Start whose caller went away is collected', async () => {
    const { daemon, front } = await setUp({ ttl: 3, failpoints: 'run.startController.before=delay(1000)' })
    const request = front.request()
    await front.client.create(request)
    await expect(front.client.start(request.id, { timeoutMs: 500 })).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    await daemon.logged('nobody has come for the sandbox')
    await isGone(front, request.id)
  })
})

describe.skipIf(!findShim())('one that is not to be trusted', () => {
  it('is not ready, is not started, and can be shut down', async () => {
    const { daemon, front } = await setUp()
    const id = await front.run()
    const created = front.request()
    await front.client.create(created)
    await daemon.kill9()
    const db = new Database(daemon.database)
    db.prepare("update sandboxes set seal = 'x'").run()
    db.close()
    await daemon.restart()
    for (const one of [id, created.id]) {
      expect(await front.client.status(one)).toMatchObject({ ready: false })
      await expect(front.client.start(one)).rejects.toMatchObject({ code: 'FailedPrecondition' })
      await front.client.stop(one)
      await front.client.shutdown(one)
      await isGone(front, one, 0)
    }
  })

  it('can be so, too, when nothing is known of it but its id', async () => {
    const { daemon, front } = await setUp()
    const id = await front.run(front.request({ ...daemon.pod(), linux: null }, await front.netns()))
    await daemon.kill9()
    await rm(join(daemon.dir, 'root', 'checkpoint.key'))
    await daemon.restart()
    expect(await front.client.status(id)).toMatchObject({ ready: false })
    await front.client.shutdown(id)
    await isGone(front, id, 0)
    expect(existsSync(front.places(id).shm)).toBe(false)
  })
})

describe.skipIf(!findShim())('a step that fails', () => {
  it.each(beforeAndAfter('run', [...CREATE_STEPS, ...START_STEPS]))('at %s leaves nothing', async (point) => {
    const { daemon, front } = await setUp({ failpoints: `${point}=1*error(on purpose)` })
    const request = front.request()
    const outcome = front.client.create(request).then(async () => front.client.start(request.id))
    await expect(outcome).rejects.toThrow('on purpose')
    await isGone(front, request.id, 0)
    await daemon.expectNothingLeft()
    // And stands in nobody's way.
    await front.run(request)
    await front.client.shutdown(request.id)
  })

  it('also in taking it back, leaves what is removed later', async () => {
    const { front } = await setUp({
      failpoints: 'run.startController.before=1*error(on purpose);release.shm.before=1*error(not yet)',
    })
    const request = front.request()
    await front.client.create(request)
    await expect(front.client.start(request.id)).rejects.toThrow('on purpose')
    await isGone(front, request.id)
  })
})
