import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { cpuRate } from '../../../src/stats/cpu-rate.ts'
import type { ReadAnswer } from '../../../src/stats/reader.ts'
import { Readings } from '../../../src/stats/readings.ts'
import { cgroupReading } from '../../support/fake-stats.ts'

const never = new AbortController().signal
const targets = Array.from({ length: 100 }, (_, index) => ({ id: String(index) }))

function counting(minIntervalMs: number) {
  const collected: (readonly { readonly id: string }[])[] = []
  let inTheWay = async (): Promise<void> => {}
  const readings = new Readings<{ readonly id: string }>(
    { minIntervalMs },
    {
      collect: async (asked) => {
        collected.push(asked)
        await inTheWay()
        const answer: ReadAnswer = { cgroup: cgroupReading(1, 1), network: null, failure: '' }
        return new Map(asked.map((target) => [target, answer]))
      },
    },
  )
  return {
    collected,
    readings,
    block: (by: () => Promise<void>) => {
      inTheWay = by
    },
  }
}

describe('Readings', () => {
  it('collects once however many ask, and not again while that is fresh', async () => {
    const { readings, collected, block } = counting(60_000)
    block(async () => await sleep(5))
    await Promise.all(Array.from({ length: 20 }, () => readings.refresh(targets, new AbortController().signal)))
    await readings.refresh(targets, never)
    expect(collected).toHaveLength(1)
  })

  it('reads only what is new', async () => {
    const { readings, collected } = counting(60_000)
    await readings.refresh(targets, never)
    await readings.refresh([...targets, { id: 'new' }], never)
    expect(collected[1]).toEqual([{ id: 'new' }])
  })

  it('reads anew what has become old', async () => {
    const { readings, collected } = counting(1)
    await readings.refresh(targets, never)
    await sleep(20)
    await readings.refresh(targets, never)
    expect(collected).toHaveLength(2)
  })

  it('lets a caller go whose signal aborts, and goes on for the others', async () => {
    const { readings, collected, block } = counting(60_000)
    let go = (): void => {}
    block(
      () =>
        new Promise((resolve) => {
          go = resolve
        }),
    )
    const caller = new AbortController()
    const left = readings.refresh(targets, caller.signal)
    const stays = readings.refresh(targets, never)
    caller.abort(new CodedError('Canceled', 'gone'))
    await expect(left).rejects.toThrow('gone')
    go()
    await stays
    expect(collected).toHaveLength(1)
  })

  it('tells all who wait when a collection fails, and tries again for the next', async () => {
    const { readings, collected, block } = counting(60_000)
    block(async () => {
      throw new CodedError('DeadlineExceeded', 'stuck')
    })
    const asked = [readings.refresh(targets, never), readings.refresh(targets, never)]
    for (const answer of await Promise.allSettled(asked)) expect(answer.status).toBe('rejected')
    block(async () => {})
    await readings.refresh(targets, never)
    expect(collected).toHaveLength(2)
  })

  it('keeps nothing of what is gone', async () => {
    const { readings } = counting(60_000)
    await readings.refresh(targets, never)
    readings.retain(new Set(['1', '2']))
    expect(readings.size).toBe(2)
  })
})

describe('cpuRate', () => {
  const at = (seconds: number, usedSeconds: number) => ({ monotonicNs: seconds * 1e9, usageNs: usedSeconds * 1e9 })

  it('counts from the reading before', () => {
    const first = cpuRate(null, at(100, 7))
    expect(first.usageNanoCores).toBe(null)
    expect(cpuRate(first.baseline, at(110, 12)).usageNanoCores).toBe(0.5e9)
  })

  it('keeps its window at a second and more', () => {
    const { baseline } = cpuRate(at(100, 7), at(100.01, 7.01))
    expect(baseline).toEqual(at(100, 7))
    expect(cpuRate(baseline, at(101, 7.5)).baseline).toEqual(at(101, 7.5))
  })

  it('has none over hours, for a counter that went back, or without time', () => {
    expect(cpuRate(at(100, 7), at(8000, 70)).usageNanoCores).toBe(null)
    expect(cpuRate(at(100, 7), at(110, 6)).usageNanoCores).toBe(null)
    expect(cpuRate(at(100, 7), at(100, 7)).usageNanoCores).toBe(null)
  })
})
