import { describe, expect, it } from 'vitest'
import { ownDaemons } from '../support/daemon.ts'
import { slowed } from '../support/slowness.ts'

const start = ownDaemons()

describe('two hundred pods', () => {
  it(
    'made and removed, sixteen at a time, leave nothing',
    async () => {
      const daemon = await start()
      const handlers = ['crun', 'crun-pinned']
      let next = 0
      const worker = async (): Promise<void> => {
        for (let number = next++; number < 200; number = next++) {
          const id = await daemon.run(daemon.pod(), handlers[number % 2])
          expect((await daemon.client.status(id)).state).toBe('SANDBOX_READY')
          if (number % 3 === 0) await daemon.client.stop(id)
          await daemon.client.remove(id)
        }
      }
      await Promise.all(Array.from({ length: 16 }, worker))
      expect(await daemon.client.list()).toEqual([])
    },
    slowed(240_000),
  )
})
