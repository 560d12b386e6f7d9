import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const LIFE = ['CREATED', 'STARTED', 'STOPPED', 'DELETED']

describe('GetContainerEvents', () => {
  it('tells the life of pods and containers in order, with their full status', async () => {
    const { client } = daemon()
    using stream = client.events()
    // The subscription itself is not answered.
    await sleep(300)
    const own = await TestPod.run(daemon(), 'crun')
    const { id } = await own.run('exit 3')
    await client.containers.remove(id)
    const stopped = await own.start()
    await client.containers.stop(stopped, 5)
    await client.stop(own.id)
    await client.remove(own.id)
    await expect.poll(() => stream.typesOf(own.id), { timeout: 5000 }).toEqual(LIFE)
    expect(stream.typesOf(id)).toEqual(LIFE)
    expect(stream.typesOf(stopped)).toEqual(LIFE)
    expect(stream.error).toBeUndefined()

    const times = stream.events.filter((event) => event.container_id === id).map((event) => BigInt(event.created_at))
    expect(times).toEqual(times.toSorted((a, b) => (a < b ? -1 : 1)))
    const end = stream.events.find(
      (event) => event.container_id === id && event.container_event_type === 'CONTAINER_STOPPED_EVENT',
    )
    expect(end?.pod_sandbox_status).toMatchObject({ id: own.id, metadata: own.config.metadata, state: 'SANDBOX_READY' })
    expect(end?.containers_statuses).toMatchObject([{ id, state: 'CONTAINER_EXITED', exit_code: 3, reason: 'Error' }])
  })

  it('tells every subscriber of every end', async () => {
    const { client } = daemon()
    using first = client.events()
    using second = client.events()
    await sleep(300)
    const own = await TestPod.run(daemon())
    const ids = await Promise.all(Array.from({ length: 20 }, async () => (await own.run('exit 1')).id))
    for (const stream of [first, second]) {
      await expect
        .poll(() => ids.map((id) => stream.typesOf(id).join()), { timeout: 10_000 })
        .toEqual(ids.map(() => LIFE.slice(0, 3).join()))
    }
  })

  it('of a subscriber that does not read hinders nobody', async () => {
    const { client } = daemon()
    using lazy = client.events()
    using reader = client.events()
    await sleep(300)
    lazy.pause()
    const own = await TestPod.run(daemon())
    const { id } = await own.run('true')
    await expect.poll(() => reader.typesOf(id), { timeout: 5000 }).toEqual(LIFE.slice(0, 3))
    expect((await client.containers.status(id)).state).toBe('CONTAINER_EXITED')
  })

  it('ends for a subscriber when the daemon ends', async () => {
    const { client } = daemon()
    using stream = client.events()
    await sleep(300)
    expect(await daemon().stop()).toBe(0)
    await expect.poll(() => stream.error, { timeout: 5000 }).toBeDefined()
    await daemon().restart()
  })
})
