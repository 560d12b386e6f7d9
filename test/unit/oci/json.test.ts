import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ociJson } from '../../../src/oci/json.ts'
import { pauseSpec } from '../../../src/oci/pause-spec.ts'
import type { Spec } from '../../../src/oci/spec.ts'
import { pauseInput } from './fixtures.ts'

describe('ociJson', () => {
  const spec = pauseSpec(pauseInput())

  it('reads back as what was written', () => {
    const read: unknown = JSON.parse(ociJson({ ...spec, linux: { ...spec.linux, resources: {} } }))
    expect(read).toEqual({ ...spec, linux: { ...spec.linux, resources: {} } })
  })

  it('keeps any text and any 64-bit number exact', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
        (text, limit) => {
          const annotations = { [`k${text}`]: text }
          const written = ociJson({ ...spec, annotations, linux: { ...spec.linux, resources: { memory: { limit } } } })
          expect((JSON.parse(written) as Spec).annotations).toEqual(annotations)
          expect(written).toContain(`"memory":{"limit":${limit}}`)
        },
      ),
      { numRuns: 200 },
    )
  })

  it.each([Number.NaN, 2 ** 60, 0.5, null])('refuses %s, which has no exact form', (oomScoreAdj) => {
    const broken = { ...spec, process: { ...spec.process, oomScoreAdj } } as Spec
    expect(() => ociJson(broken)).toThrow('spec.process.oomScoreAdj')
  })
})
