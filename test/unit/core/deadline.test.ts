import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { waitFor } from '../../../src/core/deadline.ts'

describe('waitFor', () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => void unhandled.push(reason)
  beforeEach(() => process.on('unhandledRejection', note))
  afterEach(() => {
    process.off('unhandledRejection', note)
    unhandled.length = 0
  })

  it.each([
    ['before', true],
    ['while', false],
  ])(
    'a signal that aborts %s it waits gives its reason, and the failure of the promise to nobody',
    async (_, early) => {
      const gone = new AbortController()
      let fail: (error: Error) => void = () => {}
      const promise = new Promise<void>((_resolve, reject) => {
        fail = reject
      })
      if (early) gone.abort(new Error('gone'))
      const waiting = expect(waitFor(promise, gone.signal)).rejects.toThrow('gone')
      gone.abort(new Error('gone'))
      await waiting
      fail(new Error('failed as well'))
      await turn()
      await turn()
      expect(unhandled).toEqual([])
    },
  )

  it('gives what the promise gives', async () => {
    const { signal } = new AbortController()
    expect(await waitFor(Promise.resolve(7), signal)).toBe(7)
    await expect(waitFor(Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
  })
})
