import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { networkPlanes } from '../../../src/cni/network-planes.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const name = 'network.alpha.kubernetes.io/network'
const networks = new Set(['default', 'blue', 'red'])
const planes = (value: unknown) =>
  networkPlanes({ [name]: typeof value === 'string' ? value : JSON.stringify(value) }, 'default', networks)

describe('networkPlanes', () => {
  it('is the default network as eth0 without the annotation', () => {
    expect(networkPlanes({}, 'default', networks)).toEqual([{ network: 'default', ifName: 'eth0', capabilities: {} }])
  })

  it('adds planes after the default network, in their order', () => {
    const result = planes([
      { name: 'red', interface: 'eth2' },
      { name: 'blue', interface: 'eth1' },
      { name: 'blue', interface: 'eth3' },
    ])
    expect(result.map((plane) => `${plane.ifName}=${plane.network}`)).toEqual([
      'eth0=default',
      'eth2=red',
      'eth1=blue',
      'eth3=blue',
    ])
  })

  it('lets a plane take eth0', () => {
    const result = planes([
      { name: 'red', interface: 'eth1' },
      { name: 'blue', interface: 'eth0' },
    ])
    expect(result.map((plane) => `${plane.ifName}=${plane.network}`)).toEqual(['eth0=blue', 'eth1=red'])
  })

  it('carries addresses, also to the default network', () => {
    const mac = 'c2:11:22:33:44:55'
    expect(planes([{ name: 'default', interface: 'eth0', ips: ['10.0.0.9', 'fd00::9/64'], mac }])).toEqual([
      { network: 'default', ifName: 'eth0', capabilities: { ips: ['10.0.0.9', 'fd00::9/64'], mac } },
    ])
  })

  it.each([
    ['not JSON', '{'],
    ['not a list', { name: 'blue', interface: 'eth1' }],
    ['no interface', [{ name: 'blue' }]],
    ['no name', [{ interface: 'eth1' }]],
    ['a wrong key', [{ name: 'blue', interface: 'eth1', interfaces: 'eth2' }]],
    ['an unknown network', [{ name: 'green', interface: 'eth1' }]],
    ['the default network twice', [{ name: 'default', interface: 'eth1' }]],
    ['an interface twice', ['eth1', 'eth1'].map((i) => ({ name: 'blue', interface: i }))],
    ['the loopback', [{ name: 'blue', interface: 'lo' }]],
    ['a long interface', [{ name: 'blue', interface: 'abcdefghijklmnop' }]],
    ['a long interface in bytes', [{ name: 'blue', interface: 'éééééééé' }]],
    ['a path', [{ name: 'blue', interface: '../eth1' }]],
    ['a dot', [{ name: 'blue', interface: '..' }]],
    ['white space', [{ name: 'blue', interface: 'eth 1' }]],
    ['no address', [{ name: 'blue', interface: 'eth1', ips: ['10.0.0.300'] }]],
    ['no MAC', [{ name: 'blue', interface: 'eth1', mac: 'c2:11:22:33:44' }]],
    ['too many', Array.from({ length: 33 }, (_, i) => ({ name: 'blue', interface: `net${i}` }))],
  ])('refuses %s and names the annotation', (_why, value) => {
    expect(() => planes(value)).toThrow(
      expect.objectContaining({
        code: 'InvalidArgument',
        message: containing(`config.annotations[${name}]`),
      }),
    )
  })

  it('refuses or gives interfaces that are unique, eth0 first', () => {
    const entry = fc.record({
      name: fc.constantFrom(...networks),
      interface: fc.constantFrom('eth0', 'eth1', 'eth2', ''),
    })
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 4 }), (entries) => {
        let result: ReturnType<typeof planes>
        try {
          result = planes(entries)
        } catch (error) {
          expect(error).toMatchObject({ code: 'InvalidArgument' })
          return
        }
        const interfaces = result.map((plane) => plane.ifName)
        expect(interfaces[0]).toBe('eth0')
        expect(new Set(interfaces).size).toBe(interfaces.length)
      }),
    )
  })
})
