import { afterEach, describe, expect, it, vi } from 'vitest'
import { nowNs, preciseNowNs } from '../../../src/core/now.ts'

describe('preciseNowNs', () => {
  afterEach(() => vi.useRealTimers())

  it('is the time, and goes with the clock of the node when that is set', () => {
    const apartMs = (): number => Math.abs(Number(preciseNowNs() - nowNs()) / 1e6)
    expect(apartMs()).toBeLessThan(12)
    vi.useFakeTimers({ toFake: ['Date'] })
    for (const time of ['2031-01-01T00:00:00Z', '2024-01-01T00:00:00Z']) {
      vi.setSystemTime(new Date(time))
      expect(apartMs(), time).toBeLessThan(12)
    }
  })
})
