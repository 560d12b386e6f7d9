import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { SharedWorks } from '../../../src/image/shared-works.ts'
import { Gate, Queue, Queues, Slots } from '../../../src/image/turns.ts'

const never = new AbortController().signal

/** A work that ends when its signal aborts or the test says so. */
class Work {
  readonly signals: AbortSignal[] = []
  readonly #ends: ((value: string) => void)[] = []
  readonly start = (signal: AbortSignal): Promise<string> => {
    this.signals.push(signal)
    return new Promise((resolve, reject) => {
      this.#ends.push(resolve)
      signal.addEventListener('abort', () => reject(signal.reason as Error))
    })
  }

  end(value: string): void {
    this.#ends.shift()?.(value)
  }
}

describe('SharedWorks', () => {
  it('does once what is asked for by several, and tells all', async () => {
    const works = new SharedWorks<string>()
    const work = new Work()
    const both = Promise.all([works.join('k', work.start, never), works.join('k', work.start, never)])
    const other = works.join('other', async () => 'o', never)
    work.end('done')
    expect(await both).toEqual(['done', 'done'])
    expect(await other).toBe('o')
    expect(work.signals).toHaveLength(1)
    expect(await works.join('k', async () => 'again', never)).toBe('again')
  })

  it('goes on while one waits, and is cancelled when none does', async () => {
    const works = new SharedWorks<string>()
    const work = new Work()
    const [first, second] = [new AbortController(), new AbortController()]
    const gone = expect(works.join('k', work.start, first.signal)).rejects.toThrow('first')
    const last = expect(works.join('k', work.start, second.signal)).rejects.toThrow('second')
    first.abort(new Error('first'))
    await gone
    expect(work.signals[0]?.aborted).toBe(false)
    second.abort(new Error('second'))
    await last
    expect(work.signals[0]?.aborted).toBe(true)
    // Who comes now does not get the end of the old one.
    const anew = works.join('k', work.start, never)
    await tick()
    expect(work.signals).toHaveLength(2)
    work.end('')
    work.end('new')
    expect(await anew).toBe('new')
  })

  it('ends all when it is closed', async () => {
    const works = new SharedWorks<string>()
    const work = new Work()
    const failed = expect(works.join('k', work.start, never)).rejects.toMatchObject({ code: 'Canceled' })
    await works[Symbol.asyncDispose]()
    await failed
  })
})

describe('Slots', () => {
  it('gives so many at a time, in order, and none to those who have left', async () => {
    const slots = new Slots(1)
    const first = await slots.take(never)
    const leaving = new AbortController()
    const left = expect(slots.take(leaving.signal)).rejects.toThrow('left')
    let isIn = false
    const next = slots.take(never).then((slot) => {
      isIn = true
      return slot
    })
    leaving.abort(new Error('left'))
    await left
    await tick()
    expect(isIn).toBe(false)
    first[Symbol.dispose]()
    const second = await next
    second[Symbol.dispose]()
    await slots.take(never)
  })
})

describe('Gate', () => {
  it('lets one be alone, and the others wait', async () => {
    const gate = new Gate()
    const inside = await gate.enter(never)
    expect(gate.isIdle).toBe(false)
    inside[Symbol.dispose]()
    expect(gate.isIdle).toBe(true)
    let end = (): void => {}
    const held = new Promise<void>((resolve) => {
      end = resolve
    })
    const alone = gate.alone(() => held)
    let isIn = false
    const entering = gate.enter(never).then(() => {
      isIn = true
    })
    await tick()
    expect(isIn).toBe(false)
    end()
    await Promise.all([alone, entering])
    expect(isIn).toBe(true)
  })
})

describe('Queue', () => {
  it('does one after the other, also after one that fails', async () => {
    const queue = new Queue()
    const order: string[] = []
    const work = (name: string) => async (): Promise<void> => {
      order.push(`${name}+`)
      await tick()
      order.push(`${name}-`)
      if (name === 'a') throw new Error('a')
    }
    const failed = expect(queue.run(work('a'))).rejects.toThrow('a')
    await queue.run(work('b'))
    await failed
    expect(order).toEqual(['a+', 'a-', 'b+', 'b-'])
  })

  it('of another key does not wait', async () => {
    const queues = new Queues()
    let end = (): void => {}
    const held = new Promise<void>((resolve) => {
      end = resolve
    })
    const slow = queues.run('slow', () => held)
    await tick()
    expect(await queues.run('fast', async () => 1)).toBe(1)
    end()
    await slow
  })
})
