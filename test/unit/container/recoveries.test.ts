import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Container } from '../../../src/container/container.ts'
import { Recoveries } from '../../../src/container/recoveries.ts'
import type { Verdict } from '../../../src/container/recovery.ts'

let closing: AbortController
let asked: string[]
let answers: Map<string, Promise<Verdict>>
beforeEach(() => {
  closing = new AbortController()
  asked = []
  answers = new Map()
})
afterEach(() => closing.abort())

/** Named by their lanes: `far:1` is at the Task service `far`, `:1` is on this node. */
const containers = (...ids: string[]): Container[] => ids.map((id) => ({ id }) as Container)

const recoveries = (): Recoveries =>
  new Recoveries(
    { concurrency: 2, signal: closing.signal },
    {
      laneOf: ({ id }) => id.split(':')[0] ?? '',
      recover: async ({ id }) => {
        asked.push(id)
        return (await answers.get(id)) ?? 'watch'
      },
      logger: pino({ level: 'silent' }),
    },
  )

describe('Recoveries', () => {
  it('lets nobody wait for a Task service that does not answer', async () => {
    let answer: (verdict: Verdict) => void = () => undefined
    answers.set(
      'far:2',
      new Promise((resolve) => {
        answer = resolve
      }),
    )
    const done = recoveries().recover(containers('far:1', 'far:2', ':1', ':2', ':3', 'near:1', 'near:2'))
    await expect.poll(() => asked.toSorted()).toEqual([':1', ':2', ':3', 'far:2', 'near:1', 'near:2'])
    answer('watch')
    await done
    expect(asked).toContain('far:1')
  })

  it('asks again later, and does not wait for that', async () => {
    answers.set('far:2', Promise.resolve('later'))
    await recoveries().recover(containers('far:1', 'far:2'))
    expect(asked).toEqual(['far:2'])
    answers.clear()
    await expect.poll(() => asked.toSorted(), { timeout: 5000 }).toEqual(['far:1', 'far:2', 'far:2'])
  })
})
