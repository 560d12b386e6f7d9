import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containing } from '../support/cni-plugins/containing.ts'
import { ownDaemons } from '../support/daemon.ts'
import { beforeAndAfter, CONTAINER_KINDS, CREATE_STEPS } from '../support/steps.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

const POINTS = beforeAndAfter('container-create', CREATE_STEPS)
const SLEEP = { command: ['/bin/sleep', '1000'] }

/** One daemon goes through all points: each rule holds once, and leaves the daemon as if nothing had been. */
describe.each(['crun-pinned', 'runc'])('a step of CreateContainer on %s that fails', (handler) => {
  it('fails the call with its reason, leaves nothing, and a retry succeeds', async () => {
    const daemon = await start({ failpoints: POINTS.map((point) => `${point}=1*error(no luck at ${point})`).join(';') })
    const pod = await TestPod.run(daemon, handler)
    const config = await pod.containerConfig(SLEEP)
    const { containers } = daemon.client
    const seen = new Set<string>()
    // What was made at the same time is taken back too, and may hit its own rule first: each call meets one of them.
    for (let call = 0; call < 2 * POINTS.length && seen.size < POINTS.length; call++) {
      const [outcome] = await Promise.allSettled([containers.create(pod.id, config, pod.config)])
      if (outcome.status === 'fulfilled') {
        daemon.track(outcome.value)
        break
      }
      const { code, details } = outcome.reason as { code: number; details: string }
      expect(code, details).toBe(grpc.INTERNAL)
      const point = /no luck at (\S+)/.exec(details)?.[1] ?? ''
      expect(POINTS, details).toContain(point)
      expect(seen).not.toContain(point)
      seen.add(point)
      expect(await containers.list()).toEqual([])
    }
    expect(seen.size).toBeGreaterThanOrEqual(POINTS.length / 2)
    const id = daemon.track(await containers.create(pod.id, config, pod.config))
    await containers.start(id)
    expect(await containers.list()).toHaveLength(1)
    await daemon.removeListed()
  })
})

describe('StartContainer that fails', () => {
  it('leaves a container that can be seen and removed, or started', async () => {
    const daemon = await start({ failpoints: 'container-start.start.before=1*error(no luck)' })
    const pod = await TestPod.run(daemon)
    const { containers } = daemon.client
    const id = await pod.create(SLEEP)
    await expect(containers.start(id)).rejects.toMatchObject({ details: containing('no luck') })
    expect((await containers.status(id)).state).toBe('CONTAINER_CREATED')
    await containers.start(id)
    await daemon.removeListed()
  })
})

describe('a release that fails once', () => {
  it.each(beforeAndAfter('release', CONTAINER_KINDS))('at %s is made good', async (point) => {
    const daemon = await start()
    const pod = await TestPod.run(daemon)
    await daemon.pull()
    await daemon.restart(`${point}=1*error(no luck)`)
    const id = await pod.start()
    await daemon.client.containers.remove(id)
    // A removal that is asked for succeeds, however long the rest takes.
    await expect.poll(() => daemon.client.containers.list(), { timeout: 15_000 }).toEqual([])
    await daemon.removeListed()
  })
})

describe.each(['deadline', 'cancel'] as const)('a client that gives up (%s)', (way) => {
  it('at any step leaves nothing that Stop and Remove do not take away', async () => {
    const daemon = await start({ failpoints: POINTS.map((point) => `${point}=1*delay(400)`).join(';') })
    const pod = await TestPod.run(daemon)
    const { containers } = daemon.client
    await daemon.pull()
    const configs = await Promise.all(POINTS.map(() => pod.containerConfig(SLEEP)))
    for (const config of configs) {
      const limits = way === 'cancel' ? { signal: AbortSignal.timeout(200) } : { timeoutMs: 200 }
      await containers.create(pod.id, config, pod.config, limits).catch(() => undefined)
    }
    for (const config of configs) daemon.track(await containers.create(pod.id, config, pod.config))
    expect(await containers.list()).toHaveLength(configs.length)
    await daemon.removeListed()
    expect(await containers.list()).toEqual([])
  })
})

describe('a registry', () => {
  it('that is gone fails PullImage with its reason, and leaves nothing', async () => {
    const daemon = await start()
    const { ref } = await daemon.images.push({ name: 'busybox' })
    const registry = await daemon.images.registry()
    await registry[Symbol.asyncDispose]()
    await expect(daemon.client.images.pull(ref)).rejects.toMatchObject({
      code: grpc.UNAVAILABLE,
      details: containing(ref),
    })
    expect(await daemon.client.images.list()).toEqual([])
  })

  it('that has no such image says so', async () => {
    const daemon = await start()
    const { address } = await daemon.images.registry()
    const pulling = daemon.client.images.pull(`${address}/no/such:1`)
    await expect(pulling).rejects.toMatchObject({ code: grpc.NOT_FOUND, details: containing('no/such') })
  })
})
