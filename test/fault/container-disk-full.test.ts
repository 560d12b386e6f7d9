import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ownDaemons } from '../support/daemon.ts'
import { fill } from '../support/full-disk.ts'
import { TestPod } from '../support/test-pod.ts'

const start = ownDaemons()

describe.each([
  { place: 'root', handler: 'crun' },
  { place: 'state', handler: 'runc-pinned' },
] as const)('a full disk under the $place directory, with containers on $handler', ({ place, handler }) => {
  it('fails new ones, and hinders neither Stop nor Remove of those there are', async () => {
    const daemon = await start({ tmpfs: { [place]: '64m' } })
    const pod = await TestPod.run(daemon, handler)
    const { containers } = daemon.client
    const [removed, stopped, kept] = [await pod.start(), await pod.start(), await pod.start()]
    const config = await pod.containerConfig({ command: ['/bin/sleep', '1000'] })
    const { pid } = await containers.info(stopped)
    const free = fill(join(daemon.dir, place))
    await expect(containers.create(pod.id, config, pod.config)).rejects.toThrow()
    await containers.stop(stopped, 5)
    expect(() => process.kill(pid, 0)).toThrow()
    const { state, exit_code: code } = await containers.status(stopped)
    expect(state).toBe('CONTAINER_EXITED')
    // Where the monitor has no room to write it down, nobody knows.
    expect(place === 'state' ? [0, 255] : [0]).toContain(code)
    await containers.remove(removed)
    expect((await containers.list()).map(({ id }) => id).toSorted()).toEqual([kept, stopped].toSorted())
    free()
    daemon.track(await containers.create(pod.id, config, pod.config))
    await daemon.restart()
    expect((await daemon.client.containers.status(kept)).state).toBe('CONTAINER_RUNNING')
    expect(await daemon.client.containers.status(stopped)).toMatchObject({ state, exit_code: code })
    await daemon.removeListed()
  })
})

describe('a full disk under the root directory', () => {
  it('fails PullImage, leaves nothing of it, and lets images be removed', async () => {
    const daemon = await start({ tmpfs: { root: '64m' } })
    const busybox = await daemon.pull()
    const { ref } = await daemon.images.push({ name: 'other', config: { Labels: { other: 'yes' } }, layers: [OTHER] })
    const free = fill(join(daemon.dir, 'root'))
    await expect(daemon.client.images.pull(ref)).rejects.toThrow()
    expect((await daemon.client.images.list()).flatMap((image) => image.repo_tags)).toEqual([busybox])
    await daemon.client.images.remove(busybox)
    expect(await daemon.client.images.list()).toEqual([])
    free()
    await daemon.client.images.pull(ref)
    expect((await daemon.client.images.list()).flatMap((image) => image.repo_tags)).toEqual([ref])
  })
})

const OTHER = [{ path: 'file', content: Buffer.alloc(4 << 20, 'z') }]
