import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { OwedReleases } from '../../../src/lifecycle/owed.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('OwedReleases', () => {
  it('tries again until nothing is owed, ever more rarely', async () => {
    const answers = [false, false, true]
    const retry = vi.fn(async () => answers.shift() ?? true)
    using owed = new OwedReleases(retry)
    owed.add('a')
    for (const [ms, calls] of [
      [1300, 1],
      [2600, 2],
      [5100, 3],
      [600_000, 3],
    ] as const) {
      await vi.advanceTimersByTimeAsync(ms)
      expect(retry).toHaveBeenCalledTimes(calls)
    }
    expect(owed.size).toBe(0)
  })

  it('tries at once when it is asked to, and has one next turn all the same', async () => {
    const retry = vi.fn(async () => false)
    using owed = new OwedReleases(retry)
    await owed.retryNow('a')
    expect(retry).not.toHaveBeenCalled()
    owed.add('a')
    await Promise.all([owed.retryNow('a'), owed.retryNow('a')])
    expect(retry).toHaveBeenCalledTimes(2)
    expect(vi.getTimerCount()).toBe(1)
    owed.settle('a')
    expect(vi.getTimerCount()).toBe(0)
  })
})
