import { describe, expect, it } from 'vitest'
import { type Activity, type Observer, observers, UNOBSERVED } from '../../../src/core/observer.ts'

const broken = new Error('observer')
const activity: Activity = { kind: 'store', name: 'commit' }

function recording(name: string, told: string[]): Observer {
  return {
    run: async (_activity, work) => {
      told.push(`${name} begins`)
      try {
        return await work()
      } finally {
        told.push(`${name} ends`)
      }
    },
    headers: () => ({ [name]: '1' }),
  }
}

describe('observers', () => {
  it('tell all, the first outermost, and give back what came of the work', async () => {
    const told: string[] = []
    const all = observers([recording('a', told), recording('b', told)])
    await expect(all.run(activity, async () => told.push('work'))).resolves.toBe(3)
    expect(told).toEqual(['a begins', 'b begins', 'work', 'b ends', 'a ends'])
    expect(all.headers()).toEqual({ a: '1', b: '1' })
    const error = new Error('no')
    await expect(all.run(activity, async () => Promise.reject(error))).rejects.toBe(error)
  })

  it.each([
    ['before the work', async () => Promise.reject(broken)],
    [
      'at once',
      () => {
        throw broken
      },
    ],
    ['after the work', async (_activity, work) => work().then(() => Promise.reject(broken))],
    [
      'without waiting for it',
      async (_activity, work) => {
        void work()
        return Promise.reject(broken)
      },
    ],
  ] satisfies [string, Observer['run']][])('harm no work when they fail %s', async (_when, run) => {
    const failures: unknown[] = []
    const failing: Observer = {
      run,
      headers: () => {
        throw broken
      },
    }
    const all = observers([recording('a', []), failing], (error) => failures.push(error))
    let count = 0
    await expect(all.run(activity, async () => ++count)).resolves.toBe(1)
    const own = new Error('own')
    await expect(
      all.run(activity, async () => {
        count++
        throw own
      }),
    ).rejects.toBe(own)
    expect(() => all.headers()).not.toThrow()
    expect(count).toBe(2)
    expect(failures).toContain(broken)
    expect(failures).not.toContain(own)
  })

  it('take no failure of the work for their own, nor hide it', async () => {
    const failures: unknown[] = []
    const hiding: Observer = { run: async (_activity, work) => work().catch(() => 7 as never), headers: () => ({}) }
    for (const observer of [recording('a', []), hiding]) {
      const all = observers([observer], (error) => failures.push(error))
      const own = new Error('own')
      await expect(all.run(activity, async () => Promise.reject(own))).rejects.toBe(own)
      await expect(
        all.run(activity, () => {
          throw own
        }),
      ).rejects.toBe(own)
    }
    expect(failures).toEqual([])
  })

  it('are nobody when there is none', async () => {
    expect(observers([])).toBe(UNOBSERVED)
    await expect(UNOBSERVED.run(activity, async () => 7)).resolves.toBe(7)
    expect(UNOBSERVED.headers()).toEqual({})
  })
})
