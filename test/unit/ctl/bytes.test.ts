import { expect, it } from 'vitest'
import { formatBytes } from '../../../src/ctl/bytes.ts'

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.00 kB'],
  [9994, '9.99 kB'],
  [9996, '10.0 kB'],
  [999_499, '999 kB'],
  [999_500, '1.00 MB'],
  [4_210_000, '4.21 MB'],
  [3e15, '3000 TB'],
])('formatBytes(%d) is %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text)
})
