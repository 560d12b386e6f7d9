import { describe, expect, it } from 'vitest'
import { StartSlots } from '../../../src/executor/exec/start-slots.ts'

const never = new AbortController().signal

describe('StartSlots.take', () => {
  it('lets so many in, and the next when one is given back, in their order', async () => {
    const slots = new StartSlots({ count: 2, holdMs: 60_000 })
    const order: string[] = []
    const first = await slots.take(never)
    const second = await slots.take(never)
    const third = slots.take(never).then((slot) => (order.push('third'), slot))
    const fourth = slots.take(never).then((slot) => (order.push('fourth'), slot))
    expect(order).toEqual([])
    second[Symbol.dispose]()
    second[Symbol.dispose]()
    const slot = await third
    expect(order).toEqual(['third'])
    for (const held of [first, slot]) held[Symbol.dispose]()
    ;(await fourth)[Symbol.dispose]()
    expect(order).toEqual(['third', 'fourth'])
  })

  it('takes a slot back from who keeps it long', async () => {
    const slots = new StartSlots({ count: 1, holdMs: 20 })
    const kept = await slots.take(never)
    const next = await slots.take(never)
    kept[Symbol.dispose]()
    next[Symbol.dispose]()
  })

  it('forgets who does not wait any more', async () => {
    const slots = new StartSlots({ count: 1, holdMs: 60_000 })
    const held = await slots.take(never)
    const gone = new AbortController()
    const waiting = slots.take(gone.signal)
    gone.abort(new Error('gone'))
    await expect(waiting).rejects.toThrow('gone')
    held[Symbol.dispose]()
    ;(await slots.take(never))[Symbol.dispose]()
  })
})
