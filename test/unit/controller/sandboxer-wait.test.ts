import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SandboxerWait, WAIT_TIMING } from '../../../src/controller/sandboxer-wait.ts'
import { CodedError, type ErrorCode } from '../../../src/core/errors.ts'
import { ScriptedSandboxer } from '../../support/scripted-sandboxer.ts'

const ID = 'a'.repeat(64)
const EXITED_AT = { seconds: '1763692200', nanos: 7 }

let peer: ScriptedSandboxer
let reachable: boolean[]
let lost: number
let closing: AbortController

beforeEach(() => {
  vi.useFakeTimers()
  peer = new ScriptedSandboxer()
  reachable = []
  lost = 0
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
    onLost: () => void lost++,
    graceMs: 2000,
    timing: WAIT_TIMING,
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
    peer.end({ exit_status: 3, exited_at: EXITED_AT })
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

  it('believes no Wait that answers while Status says that it runs, and no end is missed for that', async () => {
    const { ended, settled } = watch()
    for (let attempt = 0; attempt < 5; attempt++) {
      await later(10_000)
      peer.answerWait({ exit_status: 0, exited_at: null })
    }
    await later(10_000)
    expect(settled()).toBe(false)
    expect(peer.count('wait')).toBe(6)
    peer.end({ exit_status: 4, exited_at: null })
    await later(1)
    expect(await ended).toMatchObject({ code: 4, reason: 'Exited' })
  })

  it('tells when a peer that hangs cannot be observed, and believes its Wait when it can be again', async () => {
    const { ended, wait, settled } = watch()
    await later(100)
    peer.status = async () => {
      throw new CodedError('DeadlineExceeded', 'test')
    }
    await later(60_000)
    expect(reachable).toEqual([true, false])
    expect(wait.stale).toMatchObject({ problem: 'test' })
    peer.end({ exit_status: 6, exited_at: null })
    await later(60_000)
    expect(settled()).toBe(false)
    peer.status = undefined
    await later(10_000)
    expect(await ended).toMatchObject({ code: 6, reason: 'Exited' })
  })

  it('says nothing of a look that fails, or of a peer that is away for less than the time of grace', async () => {
    const { wait } = watch()
    for (let round = 0; round < 10; round++) {
      peer.status = async () => {
        throw new CodedError('Unavailable', 'test')
      }
      peer.failWait(new CodedError('Unavailable', 'test'))
      await later(1500)
      peer.status = undefined
      await later(10_000)
    }
    expect(reachable).toEqual([true])
    expect(wait.stale).toBeNull()
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

  it('gives a peer that starts its time to know a sandbox, also when told to look at once', async () => {
    const { wait, ended, settled } = watch()
    await later(100)
    peer.status = async () => {
      throw new CodedError('NotFound', 'test')
    }
    peer.failWait(new CodedError('Unavailable', 'test'))
    await later(500)
    for (let wake = 0; wake < 5; wake++) {
      wait.wake()
      await later(10)
    }
    peer.status = undefined
    await later(60_000)
    expect(settled()).toBe(false)
    wait.abandon()
    await ended
  })

  it('knows at once that its knowledge is old, and tells so once for each time', async () => {
    const { wait } = watch()
    await later(100)
    for (let round = 1; round <= 2; round++) {
      peer.status = async () => {
        throw new CodedError('Unavailable', 'test')
      }
      wait.wake()
      await later(500)
      expect(wait.stale).toMatchObject({ problem: 'test' })
      expect(lost).toBe(round)
      peer.status = undefined
      await later(10_000)
      expect(wait.stale).toBeNull()
    }
    expect(reachable).toEqual([true])
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

  it('gives a peer its time to tell how a sandbox has ended, also when told to look at once', async () => {
    const { wait, ended } = watch()
    await later(100)
    peer.state = 'SANDBOX_NOTREADY'
    wait.wake()
    await later(10)
    wait.wake()
    await later(10)
    peer.answerWait({ exit_status: 137, exited_at: null })
    expect(await ended).toMatchObject({ code: 137, reason: 'Exited' })
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
