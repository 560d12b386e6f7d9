import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { NetworkLines } from '../../../src/cni/network-lines.ts'

const signal = new AbortController().signal
const settled = () => setImmediate()

/** Enters and notes when it is in. */
function entrant(
  lines: NetworkLines,
  log: string[],
  name: string,
  how: 'shared' | 'alone' = 'shared',
  network = 'net',
) {
  const abort = new AbortController()
  const entered = lines.enter(network, how, abort.signal).then((turn) => {
    log.push(name)
    return turn
  })
  return { abort, entered, leave: async () => (await entered)[Symbol.dispose]() }
}

describe('NetworkLines', () => {
  it('lets maxConcurrent in and the others in their order', async () => {
    const lines = new NetworkLines({ maxConcurrent: 2 })
    const log: string[] = []
    const all = ['a', 'b', 'c', 'd'].map((name) => entrant(lines, log, name))
    await settled()
    expect(log).toEqual(['a', 'b'])
    await all[1]?.leave()
    await settled()
    expect(log).toEqual(['a', 'b', 'c'])
    await all[0]?.leave()
    await settled()
    expect(log).toEqual(['a', 'b', 'c', 'd'])
  })

  it('takes one who gives up out of the line', async () => {
    const lines = new NetworkLines({ maxConcurrent: 1 })
    const log: string[] = []
    const [a, b, c] = ['a', 'b', 'c'].map((name) => entrant(lines, log, name))
    b?.abort.abort(new Error('gave up'))
    await expect(b?.entered).rejects.toThrow('gave up')
    await a?.leave()
    await settled()
    expect(log).toEqual(['a', 'c'])
    await c?.leave()
  })

  it('does not enter on a signal that is aborted', async () => {
    const lines = new NetworkLines({ maxConcurrent: 1 })
    await expect(lines.enter('net', 'shared', AbortSignal.abort(new Error('too late')))).rejects.toThrow('too late')
    ;(await lines.enter('net', 'shared', signal))[Symbol.dispose]()
  })

  it('has one line for each network', async () => {
    const lines = new NetworkLines({ maxConcurrent: 1 })
    const log: string[] = []
    entrant(lines, log, 'a')
    entrant(lines, log, 'b', 'shared', 'other')
    await settled()
    expect(log).toEqual(['a', 'b'])
  })

  it('lets one alone in when nobody is, lets others pass before and none meanwhile', async () => {
    const lines = new NetworkLines({ maxConcurrent: 2 })
    const log: string[] = []
    const a = entrant(lines, log, 'a')
    const gc = entrant(lines, log, 'gc', 'alone')
    const b = entrant(lines, log, 'b')
    await settled()
    expect(log).toEqual(['a', 'b'])
    await a.leave()
    await settled()
    expect(log).toEqual(['a', 'b'])
    await b.leave()
    await settled()
    const c = entrant(lines, log, 'c')
    await settled()
    expect(log).toEqual(['a', 'b', 'gc'])
    await gc.leave()
    await settled()
    expect(log).toEqual(['a', 'b', 'gc', 'c'])
    await c.leave()
  })
})
