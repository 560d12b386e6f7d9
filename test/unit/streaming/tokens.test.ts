import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TOKEN_PATTERN, Tokens } from '../../../src/streaming/tokens.ts'
import type { StreamRequest } from '../../../src/streaming/types.ts'

const request = (sandboxId = 'a'): StreamRequest => ({ kind: 'portforward', sandboxId, ports: [80] })

function tokensAt(clock: { now: number }, maxPending = 3): Tokens {
  return new Tokens({ maxPending, lifetimeMs: 60_000, now: () => clock.now })
}

describe('Tokens', () => {
  it('gives out what a token stands for, once', () => {
    const tokens = tokensAt({ now: 0 })
    const token = tokens.add(request())
    expect(token).toMatch(TOKEN_PATTERN)
    expect(tokens.take('portforward', token)).toEqual(request())
    expect(tokens.take('portforward', token)).toBeUndefined()
  })

  it('does not give it out for another kind, and keeps it', () => {
    const tokens = tokensAt({ now: 0 })
    const token = tokens.add(request())
    expect(tokens.take('exec', token)).toBeUndefined()
    expect(tokens.take('portforward', token)).toEqual(request())
  })

  it('forgets after a minute', () => {
    const clock = { now: 0 }
    const tokens = tokensAt(clock)
    const [first, second] = [tokens.add(request()), tokens.add(request())]
    clock.now = 59_999
    expect(tokens.take('portforward', first)).toBeDefined()
    clock.now = 60_000
    expect(tokens.take('portforward', second)).toBeUndefined()
  })

  it('refuses more than may wait, until some are used or forgotten', () => {
    const clock = { now: 0 }
    const tokens = tokensAt(clock)
    const [first = ''] = [1, 2, 3].map(() => tokens.add(request()))
    expect(() => tokens.add(request())).toThrow(expect.objectContaining({ code: 'ResourceExhausted' }))
    tokens.take('portforward', first)
    tokens.add(request())
    expect(() => tokens.add(request())).toThrow('3 of them wait')
    clock.now = 60_000
    tokens.add(request())
  })

  it('behaves like a table of requests with an expiry, whatever happens in whatever order', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const) }),
      fc.record({ do: fc.constant('take' as const), which: fc.nat(20) }),
      fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 40_000 }) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const clock = { now: 0 }
        const tokens = tokensAt(clock, 5)
        const model: { token: string; id: string; expires: number; used: boolean }[] = []
        const alive = () => model.filter(({ expires, used }) => !used && expires > clock.now)
        for (const todo of steps) {
          if (todo.do === 'wait') clock.now += todo.ms
          else if (todo.do === 'add' && alive().length < 5) {
            const id = String(model.length)
            model.push({ token: tokens.add(request(id)), id, expires: clock.now + 60_000, used: false })
          } else if (todo.do === 'add') expect(() => tokens.add(request())).toThrow()
          else {
            const chosen = model[todo.which]
            if (!chosen) continue
            const expected = alive().includes(chosen) ? request(chosen.id) : undefined
            expect(tokens.take('portforward', chosen.token)).toEqual(expected)
            chosen.used = true
          }
        }
        expect(new Set(model.map(({ token }) => token)).size).toBe(model.length)
      }),
    )
  })
})
