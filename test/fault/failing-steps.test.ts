import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { containing } from '../support/cni-plugins/containing.ts'
import type { CallLimits } from '../support/cri-calls.ts'
import { ownDaemons } from '../support/daemon.ts'
import { beforeAndAfter, RUN_STEPS } from '../support/steps.ts'

const start = ownDaemons()

const POINTS = beforeAndAfter('run', RUN_STEPS)

/** One daemon goes through all points: each rule holds once, and leaves the daemon as if nothing had been. */
describe.each(['crun', 'runc-pinned'])('a step of RunPodSandbox of %s that fails', (handler) => {
  it('fails the call with its reason, leaves nothing, and a retry succeeds', async () => {
    const daemon = await start({ failpoints: POINTS.map((point) => `${point}=1*error(no luck at ${point})`).join(';') })
    // What was made at the same time is taken back too, and may hit its own rule first: each call meets one of them.
    const seen = new Set<string>()
    const config = daemon.pod()
    for (let call = 0; call < 2 * POINTS.length && seen.size < POINTS.length; call++) {
      const [outcome] = await Promise.allSettled([daemon.client.run(config, handler)])
      if (outcome.status === 'fulfilled') break
      const { code, details } = outcome.reason as { code: number; details: string }
      expect(code, details).toBe(grpc.INTERNAL)
      const point = /no luck at (\S+)/.exec(details)?.[1] ?? ''
      expect(POINTS, details).toContain(point)
      expect(seen).not.toContain(point)
      seen.add(point)
      expect(await daemon.client.list()).toEqual([])
      await daemon.expectNothingLeft()
    }
    expect(seen.size).toBeGreaterThanOrEqual(POINTS.length / 2)
    await daemon.run(config, handler)
    await daemon.removeListed()
  })
})

describe.each(POINTS)('%s', (point) => {
  it('fails the call with its reason, leaves nothing, and a retry succeeds', async () => {
    const daemon = await start({ failpoints: `${point}=1*error(no luck)` })
    const config = daemon.pod()
    await expect(daemon.client.run(config)).rejects.toMatchObject({
      code: grpc.INTERNAL,
      details: containing(`failpoint ${point}: no luck`),
    })
    expect(await daemon.client.list()).toEqual([])
    await daemon.expectNothingLeft()
    const id = await daemon.run(config)
    expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })
})

/** As a kubelet that gives up on a call and then wants the pod gone. */
describe.each(['deadline', 'cancel'] as const)('a client that gives up (%s)', (way) => {
  it('at any step leaves nothing that Stop and Remove do not take away', async () => {
    const daemon = await start({ failpoints: POINTS.map((point) => `${point}=1*delay(400)`).join(';') })
    const configs = Array.from({ length: POINTS.length }, () => daemon.pod())
    for (const config of configs) {
      const signal = AbortSignal.timeout(200)
      const limits = way === 'cancel' ? { signal } : { timeoutMs: 200 }
      const [outcome] = await Promise.allSettled([daemon.client.run(config, '', limits)])
      if (outcome.status === 'rejected') {
        const expected = way === 'cancel' ? grpc.CANCELLED : grpc.DEADLINE_EXCEEDED
        expect((outcome.reason as { code: number }).code).toBe(expected)
      }
    }
    // What goes on without its client ends, too.
    for (const config of configs) daemon.track(await daemon.client.run(config))
    expect(await daemon.client.list()).toHaveLength(configs.length)
    await daemon.removeListed()
  })

  it('of a stop or a removal does not end them', async () => {
    const daemon = await start({ failpoints: 'release.cni.before=delay(700)' })
    const [a, b] = [await daemon.run(), await daemon.run()]
    const limits = (): CallLimits => (way === 'cancel' ? { signal: AbortSignal.timeout(200) } : { timeoutMs: 200 })
    await expect(daemon.client.stop(a, limits())).rejects.toThrow()
    await expect(daemon.client.remove(b, limits())).rejects.toThrow()
    await expect.poll(async () => (await daemon.client.list()).map(({ id }) => id), { timeout: 5000 }).toEqual([a])
    await daemon.removeListed()
  })
})

describe('RunPodSandbox past its own time limit', () => {
  it('fails, and is taken back', async () => {
    const daemon = await start({
      failpoints: 'run.save.before=1*hang',
      config: { timeouts: { run_pod_sandbox: 1 } },
    })
    const config = daemon.pod()
    await expect(daemon.client.run(config)).rejects.toMatchObject({ code: grpc.DEADLINE_EXCEEDED })
    await daemon.expectNothingLeft()
    await daemon.run(config)
    await daemon.removeListed()
  })
})
