import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ownDaemons } from '../support/daemon.ts'
import { fill } from '../support/full-disk.ts'

const start = ownDaemons()

describe.each([
  { place: 'root', handler: 'crun' },
  { place: 'root', handler: 'runc-pinned' },
  { place: 'state', handler: 'crun' },
  { place: 'state', handler: 'runc-pinned' },
] as const)('a full disk under the $place directory, with pods on $handler', ({ place, handler }) => {
  it('fails new pods, and hinders neither Stop nor Remove of those there are', async () => {
    const daemon = await start({ tmpfs: { [place]: '24m' } })
    const [removed, stopped, kept] = [
      await daemon.run(daemon.pod(), handler),
      await daemon.run(daemon.pod(), handler),
      await daemon.run(daemon.pod(), handler),
    ]
    const { pid } = await daemon.client.info(stopped)
    const free = fill(join(daemon.dir, place))
    const config = daemon.pod()
    await expect(daemon.client.run(config, handler)).rejects.toThrow()
    expect((await daemon.client.list()).map(({ id }) => id).toSorted()).toEqual([kept, removed, stopped].toSorted())
    await daemon.client.stop(stopped)
    expect(() => process.kill(pid, 0)).toThrow()
    await daemon.client.remove(removed)
    const states = (await daemon.client.list()).map(({ id, state }) => `${id} ${state}`)
    expect(states.toSorted()).toEqual([`${kept} SANDBOX_READY`, `${stopped} SANDBOX_NOTREADY`].toSorted())
    free()
    await daemon.run(config, handler)
    await daemon.restart()
    expect((await daemon.client.status(kept)).state).toBe('SANDBOX_READY')
    expect((await daemon.client.status(stopped)).state).toBe('SANDBOX_NOTREADY')
    await daemon.removeListed()
  })

  it('lets a daemon that was killed start again and give everything back', async () => {
    const daemon = await start({ tmpfs: { [place]: '24m' } })
    const id = await daemon.run(daemon.pod(), handler)
    await daemon.kill9()
    const free = fill(join(daemon.dir, place))
    try {
      await daemon.restart()
      expect((await daemon.client.list()).map((pod) => pod.id)).toEqual([id])
      await daemon.client.stop(id)
      await daemon.client.remove(id)
      expect(await daemon.client.list()).toEqual([])
    } finally {
      free()
    }
  })
})
