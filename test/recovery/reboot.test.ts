import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ownDaemons } from '../support/daemon.ts'
import { reservedIps } from '../support/machine.ts'

const start = ownDaemons()
const NEXT_BOOT = '11111111-2222-4333-8444-555555555555'

describe('a reboot', () => {
  it('ends all pods, says so, and what plugins keep on disk is given back', async () => {
    const daemon = await start()
    const handlers = ['crun', 'runc', 'crun-pinned', 'runc-pinned']
    const ids = await Promise.all(handlers.map((handler) => daemon.run(daemon.pod(), handler)))
    expect(await reservedIps(daemon.dir)).toHaveLength(4)
    await daemon.reboot(NEXT_BOOT)
    for (const id of ids) {
      expect((await daemon.client.status(id)).state).toBe('SANDBOX_NOTREADY')
      expect((await daemon.client.info(id)).exit).toMatchObject({ code: 255, reason: 'NodeReboot' })
    }
    const again = await daemon.run(daemon.pod())
    expect((await daemon.client.status(again)).state).toBe('SANDBOX_READY')
    await daemon.removeListed()
  })

  it('in the middle of RunPodSandbox leaves nothing of that pod', async () => {
    const daemon = await start({ failpoints: 'run.save.before=hang' })
    const running = daemon.client.run(daemon.pod())
    running.catch(() => undefined)
    await expect.poll(() => reservedIps(daemon.dir)).toHaveLength(1)
    await daemon.reboot(NEXT_BOOT)
    await expect(running).rejects.toThrow()
    expect(await daemon.client.list()).toEqual([])
  })

  it('lets the pods of before be removed without their CNI configuration', async () => {
    const daemon = await start()
    await daemon.run()
    await rm(join(daemon.confDir, '10-test.conflist'))
    await daemon.reboot(NEXT_BOOT)
    await daemon.removeListed()
  })
})
