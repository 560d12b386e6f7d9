import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseQuantity } from '../../../src/cni/quantity.ts'

describe('parseQuantity', () => {
  it.each([
    ['0', 0n],
    ['10M', 10_000_000n],
    ['+1k', 1000n],
    ['1Ki', 1024n],
    ['1.5Gi', 1_610_612_736n],
    ['2e6', 2_000_000n],
    ['2E6', 2_000_000n],
    ['1E', 10n ** 18n],
    ['1Ei', 2n ** 60n],
    ['1e-3', 1n],
    ['500m', 1n],
    ['1500m', 2n],
    ['-1500m', -1n],
    ['-5k', -5000n],
    ['.5k', 500n],
    ['5.', 5n],
    ['999999999n', 1n],
    ['1u', 1n],
  ])('reads %s as %s', (text, value) => {
    expect(parseQuantity(text)).toBe(value)
  })

  it.each(['', ' ', 'M', '.', '1 M', '1K', '1mi', '1MB', '0x10', '1e', '1e1000', '1e6M', '--1', 'NaN', '1_000', '１'])(
    'refuses %j',
    (text) => {
      expect(() => parseQuantity(text)).toThrow('is no quantity')
    },
  )

  it('is exact for whole numbers with any suffix', () => {
    const factors = { '': 1n, k: 10n ** 3n, M: 10n ** 6n, G: 10n ** 9n, T: 10n ** 12n, Ki: 2n ** 10n, Pi: 2n ** 50n }
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 80n }),
        fc.constantFrom(...Object.entries(factors)),
        (n, [suffix, f]) => {
          expect(parseQuantity(`${n}${suffix}`)).toBe(n * f)
        },
      ),
    )
  })

  it('never rounds down', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat({ max: 999 }), (whole, thousandths) => {
        const value = parseQuantity(`${whole}.${String(thousandths).padStart(3, '0')}`)
        expect(value).toBe(BigInt(whole) + (thousandths > 0 ? 1n : 0n))
      }),
    )
  })

  it('either reads or refuses as a quantity, whatever comes', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          expect(typeof parseQuantity(text)).toBe('bigint')
        } catch (error) {
          expect(String(error)).toContain('is no quantity')
        }
      }),
    )
  })
})
