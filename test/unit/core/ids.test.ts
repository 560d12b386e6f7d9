import { describe, expect, it } from 'vitest'
import { isOwnId, newId } from '../../../src/core/ids.ts'
import { Sealer } from '../../../src/core/seal.ts'

const ours = new Sealer(Buffer.alloc(32, 1))
const others = new Sealer(Buffer.alloc(32, 2))

describe('newId', () => {
  it('is 64 lower-case hex characters, each time others', () => {
    expect(newId(ours)).toMatch(/^[0-9a-f]{64}$/)
    expect(newId(ours)).not.toBe(newId(ours))
  })
})

describe('isOwnId', () => {
  it('knows what was made under the same key', () => {
    expect(isOwnId(new Sealer(Buffer.alloc(32, 1)), newId(ours))).toBe(true)
  })

  it.each([
    ['one of another instance', newId(others)],
    ['one of another runtime', 'a'.repeat(64)],
    ['one that was changed', newId(ours).replace(/^./, (first) => (first === '0' ? '1' : '0'))],
    ['half of one', newId(ours).slice(0, 32)],
    ['nothing', ''],
  ])('does not take %s for its own', (_, id) => {
    expect(isOwnId(ours, id)).toBe(false)
  })
})
