import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inChunks, maxEncodedBytes } from '../../../src/cri/list-size.ts'
import { cri } from './cri-server.ts'

const encode = cri.RuntimeService.service.ListContainers.responseSerialize

const text = fc.string({ unit: 'binary', maxLength: 30 })
const map = fc.dictionary(text, text, { maxKeys: 5 })
const container = fc.record({
  id: text,
  pod_sandbox_id: text,
  metadata: fc.option(fc.record({ name: text, attempt: fc.nat({ max: 0xffff_ffff }) }), { nil: null }),
  image: fc.option(fc.record({ image: text, user_specified_image: text, annotations: map }), { nil: null }),
  image_ref: text,
  state: fc.constantFrom('CONTAINER_CREATED' as const, 'CONTAINER_UNKNOWN' as const),
  created_at: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
  labels: map,
  annotations: map,
})

describe('maxEncodedBytes', () => {
  it('is never less than what the message takes', () => {
    fc.assert(
      fc.property(fc.array(container, { maxLength: 5 }), (containers) => {
        expect(maxEncodedBytes({ containers })).toBeGreaterThanOrEqual(encode({ containers }).length)
      }),
    )
  })

  it('counts bytes as such', () => {
    expect(maxEncodedBytes(Buffer.alloc(1000))).toBeLessThan(1100)
    expect(maxEncodedBytes([null, undefined])).toBeLessThan(100)
  })
})

describe('inChunks', () => {
  it('keeps order and loses nothing, and no chunk of several is too large', () => {
    const items = fc.array(
      fc.nat({ max: 3 }).map((mib) => 'x'.repeat(mib * 700_000)),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(items, (given) => {
        const chunks = [...inChunks(given)]
        expect(chunks.flat()).toEqual(given)
        for (const chunk of chunks) if (chunk.length > 1) expect(maxEncodedBytes(chunk)).toBeLessThan(5 * 1024 * 1024)
      }),
      { numRuns: 30 },
    )
  })
})
