import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { beforeAndAfter, RUN_STEPS } from '../support/steps.ts'

const start = ownDaemons()

const KINDS = ['controller', 'cni', 'netns', 'shm', 'directory']

const RUN_POINTS = beforeAndAfter('run', RUN_STEPS)
const STOP_POINTS = ['stop.ended', 'stop.released', ...beforeAndAfter('release', KINDS.slice(0, -1))]
const REMOVE_POINTS = ['remove.marked', 'remove.released', ...beforeAndAfter('release', KINDS)]

/** The call fails because the daemon dies in it; anything else means that the failpoint was not reached. */
async function dies(daemon: TestDaemon, call: Promise<unknown>): Promise<void> {
  const [outcome] = await Promise.allSettled([call])
  expect(outcome.status).toBe('rejected')
  expect(await daemon.ended()).toEqual({ code: null, signal: 'SIGKILL' })
}

describe.each(['crun', 'runc-pinned'])('kill -9 in RunPodSandbox of %s', (handler) => {
  it.each(RUN_POINTS)('at %s leaves nothing that Stop and Remove do not take away', async (point) => {
    const daemon = await start({ failpoints: `${point}=kill` })
    const config = daemon.pod()
    await dies(daemon, daemon.client.run(config, handler))
    await daemon.restart()
    // The caller never got an id, so that the pod is either whole or gone.
    for (const { id, state } of await daemon.client.list()) {
      expect(state).toBe('SANDBOX_READY')
      expect(point).toBe('run.save.after')
      daemon.track(id)
    }
    await daemon.removeListed()
    await daemon.expectNothingLeft()

    const id = await daemon.run(config, handler)
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })

  it('lets a retry of the same attempt through at once', async () => {
    const daemon = await start({ failpoints: 'run.startController.after=kill' })
    const config = daemon.pod()
    await dies(daemon, daemon.client.run(config, handler))
    await daemon.launch()
    const id = await daemon.run(config, handler)
    expect((await daemon.client.list()).map((pod) => pod.id)).toEqual([id])
    await daemon.removeListed()
  })
})

describe('kill -9 in StopPodSandbox', () => {
  const handler = 'crun'

  it.each(STOP_POINTS)('at %s leaves a pod that Stop and Remove take away', async (point) => {
    const daemon = await start({ failpoints: `${point}=kill` })
    const [id, other] = [await daemon.run(daemon.pod(), handler), await daemon.run(daemon.pod(), handler)]
    await dies(daemon, daemon.client.stop(id))
    await daemon.restart()
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
    expect((await daemon.client.info(id)).exit).toMatchObject({ code: 0 })
    expect((await daemon.client.status(other)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })
})

describe('kill -9 in RemovePodSandbox', () => {
  const handler = 'runc-pinned'

  it.each(REMOVE_POINTS)('at %s is made good at the next start', async (point) => {
    const daemon = await start({ failpoints: `${point}=kill` })
    const [id, other] = [await daemon.run(daemon.pod(), handler), await daemon.run(daemon.pod(), handler)]
    await dies(daemon, daemon.client.remove(id))
    await daemon.restart()
    // Somebody has asked for its removal: it need not be asked for again.
    expect((await daemon.client.list()).map((pod) => pod.id)).toEqual([other])
    expect((await daemon.client.status(other)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })
})

describe('kill -9 again and again', () => {
  it('ends well when the daemon also dies in its recovery', async () => {
    const daemon = await start({ failpoints: 'run.startController.after=kill' })
    await dies(daemon, daemon.client.run(daemon.pod()))
    for (const point of beforeAndAfter('release', KINDS)) {
      daemon.spawn(`${point}=kill`)
      expect(await daemon.ended(), point).toEqual({ code: null, signal: 'SIGKILL' })
    }
    await daemon.restart()
    expect(await daemon.client.list()).toEqual([])
  })

  it('of a daemon with twenty pods hurts none of them', async () => {
    const daemon = await start()
    const handlers = ['crun', 'runc', 'crun-pinned', 'runc-pinned']
    const ids = await Promise.all(
      Array.from({ length: 20 }, (_, index) => daemon.run(daemon.pod(), handlers[index % 4])),
    )
    const facts = async (): Promise<unknown[]> =>
      Promise.all(
        ids.map(async (id) => {
          const [{ state, network, created_at: createdAt }, { pid, checkpoint, quarantined }] = await Promise.all([
            daemon.client.status(id),
            daemon.client.info(id),
          ])
          return { id, state, network, createdAt, pid, checkpoint, quarantined }
        }),
      )
    const before = await facts()
    for (let round = 0; round < 3; round++) {
      await daemon.restart()
      expect(await facts()).toEqual(before)
    }
    expect(before.map((fact) => (fact as { state: string }).state)).toEqual(ids.map(() => 'SANDBOX_READY'))
    await Promise.all(ids.map((id) => daemon.client.stop(id)))
    await Promise.all(ids.map((id) => daemon.client.remove(id)))
  })
})

describe('a pause process that ends while the daemon is down', () => {
  it.each([
    { signal: 'SIGINT', code: 0 },
    { signal: 'SIGKILL', code: 137 },
  ] as const)('of $signal is found with exit code $code and its time', async ({ signal, code }) => {
    const daemon = await start()
    const id = await daemon.run()
    const { pid } = await daemon.client.info(id)
    await daemon.kill9()
    const killedAt = BigInt(Date.now()) * 1_000_000n
    process.kill(pid, signal)
    await sleep(1000)
    await daemon.restart()
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
    const { exit } = await daemon.client.info(id)
    expect(exit).toMatchObject({ code, reason: 'Exited' })
    const lateNs = BigInt(exit?.atNs ?? 0) - killedAt
    expect(lateNs).toBeGreaterThan(-100_000_000n)
    expect(lateNs).toBeLessThan(900_000_000n)
    await daemon.removeListed()
  })

  it('together with its monitor is found ended, with a code that claims nothing', async () => {
    const daemon = await start()
    const id = await daemon.run()
    await daemon.kill9()
    await daemon.killPods()
    await daemon.restart()
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
    // The monitor may have written it down before it was killed.
    expect([137, 255]).toContain((await daemon.client.info(id)).exit?.code)
    await daemon.removeListed()
  })
})
