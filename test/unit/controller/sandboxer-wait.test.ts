import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SandboxerWait } from '../../../src/controller/sandboxer-wait.ts'
import { CodedError, type ErrorCode } from '../../../src/core/errors.ts'
import { ScriptedSandboxer } from '../../support/scripted-sandboxer.ts'

const ID = 'a'.repeat(64)
const EXITED_AT = { seconds: '1763692200', nanos: 7 }

let peer: ScriptedSandboxer
let reachable: boolean[]
let closing: AbortController

beforeEach(() => {
  vi.useFakeTimers()
  peer = new ScriptedSandboxer()
  reachable = []
  closing = new AbortController()
})
afterEach(() => {
  vi.useRealTimers()
})

function watch(): { wait: SandboxerWait; ended: Promise<unknown>; settled: () => boolean } {
  const options = {
    id: ID,
    timeoutMs: 1000,
    signal: closing.signal,
    onReachable: (value: boolean) => reachable.push(value),
    onStatus: () => undefined,
  }
  const wait = new SandboxerWait(options, { client: peer })
  let settled = false
  const ended = wait.ended().finally(() => {
    settled = true
  })
  ended.catch(() => undefined)
  return { wait, ended, settled: () => settled }
}

const later = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)

describe('SandboxerWait', () => {
  it('returns what Wait answers', async () => {
    const { ended } = watch()
    await later(0)
    peer.answerWait({ exit_status: 3, exited_at: EXITED_AT })
    expect(await ended).toEqual({ code: 3, atNs: 1_763_692_200_000_000_007n, reason: 'Exited' })
    expect(reachable).toEqual([true])
  })

  it.each([
    'Canceled',
    'InvalidArgument',
    'NotFound',
    'Internal',
    'Unimplemented',
    'Unavailable',
    'DeadlineExceeded',
    'DataLoss',
  ] as ErrorCode[])('takes no Wait that fails with %s for an end', async (code) => {
    const { settled } = watch()
    for (let attempt = 0; attempt < 5; attempt++) {
      await later(10_000)
      peer.failWait(new CodedError(code, 'test'))
    }
    await later(10_000)
    expect(settled()).toBe(false)
    expect(peer.count('wait')).toBe(6)
    expect(reachable).toEqual([true])
  })

  it('asks ever more rarely while nothing is known', async () => {
    peer.status = async () => {
      throw new CodedError('Unavailable', 'test')
    }
    const { settled } = watch()
    await later(1000)
    const early = peer.count('status')
    await later(60_000)
    expect(early).toBeGreaterThanOrEqual(3)
    expect(peer.count('status')).toBeLessThan(30)
    expect(settled()).toBe(false)
    expect(reachable).toEqual([false])
  })

  it('tells when a peer that hangs cannot be observed, and still believes its Wait', async () => {
    const { ended } = watch()
    await later(100)
    peer.status = async () => {
      throw new CodedError('DeadlineExceeded', 'test')
    }
    await later(60_000)
    expect(reachable).toEqual([true, false])
    peer.answerWait({ exit_status: 0, exited_at: null })
    expect(await ended).toMatchObject({ code: 0, reason: 'Exited' })
  })

  it('believes a sandbox to be gone only when it is unknown twice in a row', async () => {
    let calls = 0
    peer.status = async () => {
      calls++
      if (calls % 2 === 1) throw new CodedError('NotFound', 'test')
      throw new CodedError('Unavailable', 'test')
    }
    const { ended, settled } = watch()
    await later(60_000)
    expect(settled()).toBe(false)
    peer.status = async () => {
      throw new CodedError('NotFound', 'test')
    }
    await later(10_000)
    expect(await ended).toMatchObject({ code: 255, reason: 'Unknown' })
  })

  it('asks for the exit status of a sandbox that is not ready, and does without when there is none', async () => {
    peer.state = 'SANDBOX_NOTREADY'
    peer.exitedAt = EXITED_AT
    const { ended } = watch()
    await later(10)
    expect(peer.count('wait')).toBe(1)
    await later(3000)
    expect(await ended).toEqual({ code: 255, atNs: 1_763_692_200_000_000_007n, reason: 'Unknown' })
  })

  it('takes a word that it does not know for nothing', async () => {
    peer.state = 'SANDBOX_MIGRATING'
    const { settled } = watch()
    await later(60_000)
    expect(settled()).toBe(false)
    expect(reachable).toEqual([false])
  })

  it('looks at once when woken up', async () => {
    const { wait, ended } = watch()
    await later(1000)
    expect(peer.count('status')).toBe(1)
    peer.state = 'SANDBOX_NOTREADY'
    wait.wake()
    await later(1)
    expect(peer.count('status')).toBe(2)
    peer.answerWait({ exit_status: 137, exited_at: null })
    expect(await ended).toMatchObject({ code: 137 })
  })

  it('ends when it is closed, and asks no more', async () => {
    const { ended } = watch()
    await later(1000)
    closing.abort(new CodedError('Canceled', 'the daemon stops'))
    await expect(ended).rejects.toThrow('the daemon stops')
    const asked = peer.calls.length
    await later(60_000)
    expect(peer.calls).toHaveLength(asked)
  })

  it('ends when its sandbox was removed', async () => {
    const { wait, ended } = watch()
    await later(1000)
    wait.abandon()
    expect(await ended).toMatchObject({ code: 255, reason: 'Unknown' })
  })
})
