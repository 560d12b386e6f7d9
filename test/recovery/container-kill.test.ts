import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { SHIM_HANDLERS, ownDaemons, type TestDaemon } from '../support/daemon.ts'
import { beforeAndAfter, CONTAINER_KINDS, CREATE_STEPS } from '../support/steps.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

const CREATE_POINTS = beforeAndAfter('container-create', CREATE_STEPS)
const START_POINTS = beforeAndAfter('container-start', ['start'])
/** The second one is reached by a container that has to be killed. */
const STOPS = [
  { point: 'container-stop.signalled', onTerm: 'exit 0', code: 0 },
  { point: 'container-stop.ended', onTerm: ':', code: 137 },
]
const REMOVE_POINTS = [
  'container-remove.marked',
  'container-remove.released',
  ...beforeAndAfter('release', CONTAINER_KINDS),
]

/** A daemon with a pod and the image that its containers run; from its next start on it has the failpoint. */
async function prepared(point: string, handler = 'crun-pinned'): Promise<{ daemon: TestDaemon; pod: TestPod }> {
  const daemon = await start()
  const pod = await TestPod.run(daemon, handler)
  await daemon.pull()
  await daemon.restart(`${point}=kill`)
  return { daemon, pod }
}

/** The call fails because the daemon dies in it; anything else means that the failpoint was not reached. */
async function dies(daemon: TestDaemon, call: Promise<unknown>): Promise<void> {
  const [outcome] = await Promise.allSettled([call])
  expect(outcome.status).toBe('rejected')
  expect(await daemon.ended()).toEqual({ code: null, signal: 'SIGKILL' })
}

describe.each(['crun-pinned', 'runc', ...SHIM_HANDLERS])('kill -9 in CreateContainer on %s', (handler) => {
  it.each(CREATE_POINTS)('at %s leaves nothing, or a whole container', async (point) => {
    const { daemon, pod } = await prepared(point, handler)
    const config = await pod.containerConfig({ command: ['/bin/sleep', '1000'] })
    await dies(daemon, daemon.client.containers.create(pod.id, config, pod.config))
    await daemon.restart()
    const { containers } = daemon.client
    // The caller never got an id, so that the container is either whole or gone.
    for (const { id, state } of await containers.list()) {
      expect({ point, state }).toEqual({ point: 'container-create.save.after', state: 'CONTAINER_CREATED' })
      daemon.track(id)
    }
    expect((await daemon.client.status(pod.id)).state).toBe('SANDBOX_READY')
    const id = daemon.track(await containers.create(pod.id, config, pod.config))
    await containers.start(id)
    expect((await containers.status(id)).state).toBe('CONTAINER_RUNNING')
    expect(await containers.list()).toHaveLength(1)
    await daemon.removeListed()
  })
})

describe.each(['crun-pinned', 'runc', ...SHIM_HANDLERS])('kill -9 in StartContainer on %s', (handler) => {
  it.each(START_POINTS)('at %s leaves a container whose state is true', async (point) => {
    const { daemon, pod } = await prepared(point, handler)
    const { containers } = daemon.client
    const id = await pod.create({ command: ['/bin/sh', '-c', 'echo started; exec sleep 1000'] })
    await dies(daemon, containers.start(id))
    await daemon.restart()
    const { state, started_at: startedAt } = await daemon.client.containers.status(id)
    expect(state).toBe(point.endsWith('after') ? 'CONTAINER_RUNNING' : 'CONTAINER_CREATED')
    expect(BigInt(startedAt) > 0n).toBe(state === 'CONTAINER_RUNNING')
    if (state === 'CONTAINER_CREATED') await daemon.client.containers.start(id)
    expect((await daemon.client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
    await daemon.removeListed()
  })
})

describe('kill -9 in StopContainer', () => {
  it.each(STOPS)('at $point leaves a container that can be stopped and removed', async ({ point, onTerm, code }) => {
    const { daemon, pod } = await prepared(point)
    const script = `trap "${onTerm}" TERM; while :; do sleep 0.1 & wait; done`
    const [id, other] = [await pod.start({ command: ['/bin/sh', '-c', script] }), await pod.start()]
    // A signal before the handler is there would be lost.
    await sleep(300)
    await dies(daemon, daemon.client.containers.stop(id, 1))
    await daemon.restart()
    const { containers } = daemon.client
    await containers.stop(id, 1)
    expect(await containers.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: code })
    expect((await containers.status(other)).state).toBe('CONTAINER_RUNNING')
    await containers.remove(id)
    expect((await containers.list()).map((container) => container.id)).toEqual([other])
    await daemon.removeListed()
  })
})

describe('kill -9 in RemoveContainer', () => {
  it.each(REMOVE_POINTS)('at %s is made good at the next start', async (point) => {
    const { daemon, pod } = await prepared(point)
    const [id, other] = [await pod.start(), await pod.start()]
    await dies(daemon, daemon.client.containers.remove(id))
    await daemon.restart()
    // Somebody has asked for its removal: it need not be asked for again.
    await expect
      .poll(async () => (await daemon.client.containers.list()).map((container) => container.id), { timeout: 10_000 })
      .toEqual([other])
    expect((await daemon.client.containers.status(other)).state).toBe('CONTAINER_RUNNING')
    await daemon.removeListed()
  })
})

describe('kill -9 again and again', () => {
  it('ends well when the daemon also dies in its recovery', async () => {
    const { daemon, pod } = await prepared('container-create.createProcess.after')
    await dies(daemon, pod.create({ command: ['/bin/sleep', '1000'] }))
    for (const point of beforeAndAfter('release', CONTAINER_KINDS)) {
      daemon.spawn(`${point}=kill`)
      expect(await daemon.ended(), point).toEqual({ code: null, signal: 'SIGKILL' })
    }
    await daemon.restart()
    expect(await daemon.client.containers.list()).toEqual([])
    expect((await daemon.client.status(pod.id)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })
})

describe('a pod that is run while the daemon still recovers', () => {
  it('is not taken for one that an earlier daemon has left', async () => {
    const { daemon, pod } = await prepared('container-remove.marked')
    const id = await pod.start()
    await dies(daemon, daemon.client.containers.remove(id))
    // The removal holds up the recovery of pods, and the new pod is not ready before that has begun.
    await daemon.launch('release.container.before=1*delay(1000);run.save.before=1*delay(2500)')
    const other = await TestPod.run(daemon)
    await daemon.recovered()
    expect((await daemon.client.status(other.id)).state).toBe('SANDBOX_READY')
    expect(await other.prints('echo well')).toBe('well')
    await daemon.removeListed()
  })
})
