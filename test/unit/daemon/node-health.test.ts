import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { parseConfig } from '../../../src/config/parse.ts'
import { NodeHealth, type NodeHealthDeps } from '../../../src/daemon/health/node-health.ts'

const config = parseConfig('', 'test')

function healthOf(checkProgram: (path: string) => Promise<void>): NodeHealth {
  return new NodeHealth(config, {
    networks: {} as NodeHealthDeps['networks'],
    counts: () => ({}),
    features: () => Promise.reject(new Error('not asked')),
    whyNoUserNamespaces: async () => '',
    onPodCidrs: () => undefined,
    checkProgram,
  })
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('NodeHealth', () => {
  it('says which program is not there, and that it is again', async () => {
    let isThere = false
    using health = healthOf(async (path) => {
      if (!isThere) throw new Error(`${path}: ENOENT`)
    })
    await health.start()
    const { runtime = '' } = config.runtimes[config.defaultRuntimeHandler] ?? {}
    expect(health.runtimeCondition()).toEqual({
      isTrue: false,
      reason: 'RuntimeNotExecutable',
      message: `${runtime}: ENOENT`,
    })
    isThere = true
    await vi.advanceTimersByTimeAsync(30_000)
    expect(health.runtimeCondition()).toEqual({ isTrue: true, reason: '', message: '' })
  })

  it('waits for no file system that hangs, looks at it once only, and sees when it is back', async () => {
    let looks = 0
    let comeBack = (): void => undefined
    using health = healthOf(() => {
      looks++
      return new Promise((resolve) => {
        comeBack = resolve
      })
    })
    const started = health.start()
    await vi.advanceTimersByTimeAsync(5000)
    await started
    await vi.advanceTimersByTimeAsync(300_000)
    expect(looks).toBe(1)
    expect(health.runtimeCondition()).toMatchObject({
      isTrue: false,
      message: 'look at the programs of the default runtime handler: no end after 5000 ms',
    })
    for (let answers = 0; answers < 6; answers++) {
      comeBack()
      await vi.advanceTimersByTimeAsync(30_000)
    }
    expect(health.runtimeCondition().isTrue).toBe(true)
  })
})
