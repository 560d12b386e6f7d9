import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chooseVersion, cniVersions, isAtLeast } from '../../../src/cni/version.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

describe('chooseVersion', () => {
  it('takes the highest that everybody speaks', () => {
    const bridge = { type: 'bridge', versions: ['0.3.1', '0.4.0', '1.0.0'] }
    expect(chooseVersion(['0.4.0', '1.0.0', '1.1.0'], [bridge])).toEqual({ version: '1.0.0' })
    expect(chooseVersion(['0.4.0', '1.0.0', '1.1.0'], [bridge, { type: 'old', versions: ['0.4.0'] }])).toEqual({
      version: '0.4.0',
    })
  })

  it('is not limited by a plugin that does not answer', () => {
    expect(chooseVersion(['1.1.0'], [{ type: 'script', versions: undefined }])).toEqual({ version: '1.1.0' })
  })

  it.each([
    [[], [], 'no cniVersion given'],
    [['2.0.0'], [], 'cniVersion 2.0.0 is not supported'],
    [['0.2.0'], [], 'cniVersion 0.2.0 is not supported'],
    [
      ['1.1.0'],
      [{ type: 'bridge', versions: ['1.0.0'] }],
      'plugin bridge does not support cniVersion 1.1.0 (it speaks 1.0.0)',
    ],
  ])('says what is wrong with %j', (allowed, plugins, problem) => {
    expect(chooseVersion(allowed, plugins)).toEqual({ problem: containing(problem) })
  })

  it('never chooses what somebody did not offer', () => {
    const versions = fc.subarray([...cniVersions, '0.2.0', '2.0.0'])
    fc.assert(
      fc.property(versions, fc.array(versions, { maxLength: 3 }), (allowed, offers) => {
        const choice = chooseVersion(
          allowed,
          offers.map((offer, index) => ({ type: `p${index}`, versions: offer })),
        )
        const common = cniVersions.filter((v) => [allowed, ...offers].every((offer) => offer.includes(v)))
        if ('version' in choice) expect(choice.version).toBe(common.at(-1))
        else expect(common).toEqual([])
      }),
    )
  })
})

describe('isAtLeast', () => {
  it('orders known versions and knows no others', () => {
    expect(isAtLeast('1.1.0', '0.4.0')).toBe(true)
    expect(isAtLeast('0.4.0', '0.4.0')).toBe(true)
    expect(isAtLeast('0.3.1', '0.4.0')).toBe(false)
    expect(isAtLeast('2.0.0', '0.4.0')).toBe(false)
  })
})
