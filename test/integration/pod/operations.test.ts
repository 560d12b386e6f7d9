import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { ownDaemons, sharedDaemon } from '../../support/daemon.ts'
import { processes } from '../../support/machine.ts'
import { eventually } from '../../support/pod-facts.ts'

const daemon = sharedDaemon()
const start = ownDaemons()

describe('StopPodSandbox and RemovePodSandbox', () => {
  it('succeed on ids that nobody knows', async () => {
    const unknown = randomBytes(32).toString('hex')
    await daemon().client.stop(unknown)
    await daemon().client.remove(unknown)
  })

  it('succeed again and again', async () => {
    const id = await daemon().run()
    const { client } = daemon()
    await client.stop(id)
    await client.stop(id)
    await client.remove(id)
    await client.remove(id)
    await client.stop(id)
  })

  it('removes a pod that runs', async () => {
    const id = await daemon().run()
    await daemon().client.remove(id)
    expect(await daemon().client.list()).toEqual([])
  })

  it('succeed for fifty callers at once', async () => {
    const id = await daemon().run()
    const { client } = daemon()
    const calls = Array.from({ length: 50 }, (_, index) => [
      client.stop(id),
      ...(index >= 5 ? [client.remove(id)] : []),
    ])
    await Promise.all(calls.flat())
    expect(await client.list()).toEqual([])
  })

  it('keeps a pod stopped while fifty callers stop it, until it is removed', async () => {
    const id = await daemon().run()
    const { client } = daemon()
    await Promise.all(Array.from({ length: 50 }, () => client.stop(id)))
    expect((await client.status(id)).state).toBe('SANDBOX_NOTREADY')
  })
})

describe('RunPodSandbox', () => {
  it('gives the id of the pod that runs to whoever asks for the same again', async () => {
    const config = daemon().pod()
    const id = await daemon().run(config)
    expect(await daemon().run(config)).toBe(id)
  })

  it('refuses another pod of the same name', async () => {
    const config = daemon().hostPod()
    await daemon().run(config, 'crun-pinned')
    for (const other of [daemon().run({ ...config, labels: { other: 'yes' } }, 'crun-pinned'), daemon().run(config)]) {
      await expect(other).rejects.toMatchObject({ code: grpc.ALREADY_EXISTS })
    }
    expect(await daemon().client.list()).toHaveLength(1)
  })

  it('refuses the name of a stopped pod, and takes the next attempt', async () => {
    const config = daemon().hostPod()
    const id = await daemon().run(config, 'crun-pinned')
    await daemon().client.stop(id)
    await expect(daemon().run(config, 'crun-pinned')).rejects.toMatchObject({ code: grpc.ALREADY_EXISTS })
    const next = await daemon().run({ ...config, metadata: { ...config.metadata, attempt: 1 } }, 'crun-pinned')
    expect(next).not.toBe(id)
  })

  it('refuses an unknown runtime handler and makes nothing', async () => {
    const running = daemon().run(daemon().pod(), 'no-such')
    await expect(running).rejects.toMatchObject({
      code: grpc.NOT_FOUND,
      details: expect.stringContaining('no-such') as string,
    })
    expect(await daemon().client.list()).toEqual([])
  })

  it('joins the attempt that is under way', async () => {
    const own = await start({ failpoints: 'run.save.before=1*delay(1000)' })
    const config = own.pod()
    const first = own.run(config)
    await own.logged('"msg"')
    const ids = await Promise.all([first, ...Array.from({ length: 5 }, () => own.run(config))])
    expect(new Set(ids).size).toBe(1)
    const late = own.client.run({ ...config, labels: { other: 'yes' } })
    await expect(late).rejects.toMatchObject({ code: grpc.ALREADY_EXISTS })
    expect(await own.client.list()).toHaveLength(1)
    await own.removeListed()
  })

  it('goes on for the next caller when the first one leaves', async () => {
    const own = await start({ failpoints: 'run.save.before=1*delay(1000)' })
    const config = own.pod()
    await expect(own.client.run(config, '', { timeoutMs: 300 })).rejects.toMatchObject({ code: grpc.DEADLINE_EXCEEDED })
    const id = await own.run(config)
    expect((await own.client.list()).map((pod) => pod.id)).toEqual([id])
    await own.removeListed()
  })
})

describe('a pause process', () => {
  it.each(['crun', 'runc', 'crun-pinned'])(
    'that is killed makes the pod not ready within two seconds (%s)',
    async (handler) => {
      const id = await daemon().run(daemon().pod(), handler)
      const { client } = daemon()
      const killedAt = BigInt(Date.now()) * 1_000_000n
      process.kill((await client.info(id)).pid, 'SIGKILL')
      const status = await eventually(
        () => client.status(id),
        ({ state }) => state === 'SANDBOX_NOTREADY',
        2000,
      )
      expect(status.state).toBe('SANDBOX_NOTREADY')
      const { exit } = await client.info(id)
      expect(exit).toMatchObject({ code: 137, reason: 'Exited' })
      expect(BigInt(exit?.atNs ?? 0) - killedAt).toBeLessThan(2_000_000_000n)
    },
  )

  it('outlives its monitor, and its end is seen all the same', async () => {
    const id = await daemon().run()
    const { client, dir } = daemon()
    const { pid } = await client.info(id)
    const everything = { dir, node: daemon().node, cgroupParent: daemon().cgroupParent, ids: [id], daemons: [] }
    const monitor = processes(everything).find(({ what }) => what.includes('conmon'))
    expect(monitor).toBeDefined()
    process.kill(monitor?.pid ?? 0, 'SIGKILL')
    await sleep(1500)
    expect((await client.status(id)).state).toBe('SANDBOX_READY')
    process.kill(pid, 'SIGKILL')
    const status = await eventually(
      () => client.status(id),
      ({ state }) => state === 'SANDBOX_NOTREADY',
      8000,
    )
    expect(status.state).toBe('SANDBOX_NOTREADY')
    // Nobody was there to see the code: it is not made up.
    expect((await client.info(id)).exit).toMatchObject({ code: 255, reason: 'Unknown' })
  })
})
