import { describe, expect, it } from 'vitest'
import { sharedDaemon } from '../../support/daemon.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

describe('ListContainers', () => {
  it('finds by id, pod, state and labels, and streams the same', async () => {
    const { containers } = daemon().client
    const [mine, other] = [await TestPod.run(daemon()), await TestPod.run(daemon())]
    const a = await mine.create({ labels: { app: 'a', zone: 'x' } })
    const b = await mine.start({ labels: { app: 'b', zone: 'x' } })
    const c = await other.start({ labels: { app: 'b', zone: 'y' } })
    await containers.stop(c)
    const ids = async (filter?: Parameters<typeof containers.list>[0]): Promise<string[]> => {
      const listed = (await containers.list(filter)).map(({ id }) => id)
      expect((await containers.stream(filter)).map(({ id }) => id)).toEqual(listed)
      return listed
    }
    expect(await ids()).toEqual([c, b, a])
    expect(await ids({ id: a })).toEqual([a])
    expect(await ids({ id: b.slice(0, 12) })).toEqual([b])
    expect(await ids({ id: 'f'.repeat(64) })).toEqual([])
    expect(await ids({ pod_sandbox_id: mine.id })).toEqual([b, a])
    expect(await ids({ pod_sandbox_id: other.id.slice(0, 13) })).toEqual([c])
    expect(await ids({ state: { state: 'CONTAINER_CREATED' } })).toEqual([a])
    expect(await ids({ state: { state: 'CONTAINER_RUNNING' } })).toEqual([b])
    expect(await ids({ state: { state: 'CONTAINER_EXITED' } })).toEqual([c])
    expect(await ids({ label_selector: { zone: 'x' } })).toEqual([b, a])
    expect(await ids({ label_selector: { zone: 'x', app: 'b' }, pod_sandbox_id: mine.id })).toEqual([b])
    expect(await ids({ label_selector: { app: 'b' }, state: { state: 'CONTAINER_RUNNING' } })).toEqual([b])
    expect(await ids({ label_selector: { app: 'c' } })).toEqual([])
  })

  it('shows what a container is', async () => {
    const { client } = daemon()
    const own = await TestPod.run(daemon())
    const part = { metadata: { name: 'main', attempt: 2 }, labels: { l: '1' }, annotations: { a: 'ü' } }
    const id = await own.start(part)
    const image = await client.images.status(await daemon().pull())
    expect(await client.containers.list()).toMatchObject([
      { id, pod_sandbox_id: own.id, state: 'CONTAINER_RUNNING', ...part, image_id: image?.id },
    ])
    const [listed] = await client.containers.list()
    const status = await client.containers.status(id)
    expect(listed).toMatchObject({ created_at: status.created_at, image: status.image, image_ref: status.image_ref })
  })

  it('finds a container by the beginning of its id in calls that want one', async () => {
    const { containers } = daemon().client
    const own = await TestPod.run(daemon())
    const id = await own.start()
    const short = id.slice(0, 12)
    expect((await containers.status(short)).id).toBe(id)
    expect(await containers.shell(short, 'echo found')).toBe('found')
    await containers.stop(short, 5)
    await containers.remove(short)
    expect(await containers.list()).toEqual([])
  })
})
