import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { LoopWatch } from '../../../src/daemon/service/loop-watch.ts'

/** Keeps the event loop from turning. */
function block(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

describe('LoopWatch', () => {
  it('pings at half of the time, not while the event loop is blocked, and tells of that', async () => {
    const lines: string[] = []
    const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(line) })
    let pings = 0
    using _watch = new LoopWatch({ watchdogMs: 200 }, { ping: () => pings++, logger })
    await sleep(450)
    expect(pings).toBeGreaterThan(1)
    expect(lines).toEqual([])
    const before = pings
    block(1800)
    expect(pings).toBe(before)
    await sleep(350)
    expect(pings).toBeGreaterThan(before)
    const [line = '', ...more] = lines
    expect(more).toEqual([])
    expect(JSON.parse(line)).toMatchObject({ msg: 'the event loop was blocked', delayMs: expect.any(Number) as number })
    expect((JSON.parse(line) as { delayMs: number }).delayMs).toBeGreaterThan(1000)
  })

  it('pings nobody where no watchdog waits, or not yet, and after its end', async () => {
    const logger = pino({ level: 'silent' })
    let pings = 0
    using _quiet = new LoopWatch({ watchdogMs: undefined }, { ping: () => pings++, logger })
    using _patient = new LoopWatch({ watchdogMs: 1e10 }, { ping: () => pings++, logger })
    new LoopWatch({ watchdogMs: 10 }, { ping: () => pings++, logger })[Symbol.dispose]()
    await sleep(60)
    expect(pings).toBe(0)
  })
})
