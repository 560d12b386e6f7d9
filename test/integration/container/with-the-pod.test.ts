import { existsSync } from 'node:fs'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containing } from '../../support/cni-plugins/containing.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { eventually } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

describe.each(['crun', 'runc-pinned', ...SHIM_HANDLERS])('the containers of a pod on %s', (handler) => {
  const pod = (): Promise<TestPod> => TestPod.run(daemon(), handler, daemon().pod())

  it('end with StopPodSandbox, and no new one is taken then', async () => {
    const own = await pod()
    const { client } = daemon()
    const [running, created] = [await own.start(), await own.create()]
    const { pid } = await client.containers.info(running)
    await client.stop(own.id)
    expect(existsSync(`/proc/${pid}/ns/mnt`)).toBe(false)
    expect((await client.containers.status(running)).state).toBe('CONTAINER_EXITED')
    expect((await client.containers.status(created)).state).not.toBe('CONTAINER_RUNNING')
    await expect(own.create()).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION, details: containing(own.id) })
    await expect(client.containers.start(created)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    expect(await client.containers.list()).toHaveLength(2)
  })

  it('go with RemovePodSandbox', async () => {
    const own = await pod()
    const { client } = daemon()
    const [running] = [await own.start(), await own.create(), await own.run('exit 1')]
    const { pid } = await client.containers.info(running)
    await client.remove(own.id)
    expect(existsSync(`/proc/${pid}/ns/mnt`)).toBe(false)
    expect(await client.containers.list()).toEqual([])
    expect(await client.list()).toEqual([])
  })

  it('may be stopped and removed after their pod was stopped', async () => {
    const own = await pod()
    const { client } = daemon()
    const id = await own.start()
    await client.stop(own.id)
    await client.containers.stop(id, 5)
    await client.containers.remove(id)
    await client.remove(own.id)
    expect(await client.list()).toEqual([])
  })

  it('may be stopped and removed while their pod is', async () => {
    const own = await pod()
    const { client } = daemon()
    const ids = await Promise.all(Array.from({ length: 4 }, () => own.start()))
    await Promise.all([
      client.stop(own.id),
      ...ids.map((id) => client.containers.stop(id, 5)),
      client.remove(own.id),
      ...ids.map((id) => client.containers.remove(id)),
    ])
    expect(await client.containers.list()).toEqual([])
    expect(await client.list()).toEqual([])
  })
})

describe('a pod whose pause process was killed', () => {
  it('takes no new container, and its containers can be stopped and removed', async () => {
    const own = await TestPod.run(daemon(), 'crun', daemon().pod())
    const { client } = daemon()
    const id = await own.start()
    process.kill((await client.info(own.id)).pid, 'SIGKILL')
    const status = await eventually(
      () => client.status(own.id),
      ({ state }) => state === 'SANDBOX_NOTREADY',
    )
    expect(status.state).toBe('SANDBOX_NOTREADY')
    await expect(own.create()).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await client.stop(own.id)
    expect((await client.containers.status(id)).state).toBe('CONTAINER_EXITED')
  })
})

describe('RemovePodSandbox', () => {
  it('of one pod leaves the containers of another alone', async () => {
    const { client } = daemon()
    const [mine, other] = [await TestPod.run(daemon()), await TestPod.run(daemon())]
    const [, id] = [await mine.start(), await other.start()]
    await client.remove(mine.id)
    expect((await client.containers.list()).map((container) => container.id)).toEqual([id])
    expect((await client.containers.status(id)).state).toBe('CONTAINER_RUNNING')
  })
})
