import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Carrier } from '../../../src/streaming/carrier.ts'
import { watchSession } from '../../../src/streaming/session-watch.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

function carrier(ended = new AbortController()) {
  const state = { lastActivityMs: performance.now(), pings: 0 }
  const made: Carrier = {
    get lastActivityMs() {
      return state.lastActivityMs
    },
    ping: () => {
      state.pings += 1
    },
    close: async () => {},
    destroy: () => {},
    signal: ended.signal,
  }
  return { made, state, ended }
}

const OPTIONS = { idleTimeoutMs: 1000, pingIntervalMs: 150 }

describe('watchSession', () => {
  it('ends a session that has been idle for too long, whatever pings there were', () => {
    const { made, state } = carrier()
    const watch = watchSession(made, OPTIONS, new AbortController().signal)
    vi.advanceTimersByTime(999)
    expect([watch.signal.aborted, state.pings]).toEqual([false, 6])
    vi.advanceTimersByTime(1)
    expect(watch.signal.reason).toMatchObject({ code: 'DeadlineExceeded' })
    watch[Symbol.dispose]()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('counts from the last payload', () => {
    const { made, state } = carrier()
    const watch = watchSession(made, OPTIONS, new AbortController().signal)
    for (let at = 0; at < 10; at += 1) {
      vi.advanceTimersByTime(700)
      state.lastActivityMs = performance.now()
    }
    vi.advanceTimersByTime(999)
    expect(watch.signal.aborted).toBe(false)
    vi.advanceTimersByTime(1)
    expect(watch.signal.aborted).toBe(true)
    watch[Symbol.dispose]()
  })

  it.each(['connection', 'server'] as const)('ends with its %s, for the same reason', (which) => {
    const [ended, closing] = [new AbortController(), new AbortController()]
    const { made } = carrier(ended)
    const watch = watchSession(made, OPTIONS, closing.signal)
    const reason = new Error('over')
    if (which === 'connection') ended.abort(reason)
    else closing.abort(reason)
    expect(watch.signal.reason).toBe(reason)
    watch[Symbol.dispose]()
    expect(vi.getTimerCount()).toBe(0)
  })
})
