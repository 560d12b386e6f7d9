import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseResult, sandboxIps } from '../../../src/cni/result.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const interfaces = [
  { name: 'cni0', mac: '00:00:00:00:00:01' },
  { name: 'veth1', mac: '00:00:00:00:00:02' },
  { name: 'eth0', mac: '00:00:00:00:00:03', sandbox: '/run/netns/x' },
]

describe('parseResult', () => {
  it.each(['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])('reads a dual-stack result of %s', (cniVersion) => {
    const family = (version: string) => (cniVersion < '1' ? { version } : {})
    const raw = {
      cniVersion,
      interfaces,
      ips: [
        { ...family('4'), address: '10.88.0.5/16', gateway: '10.88.0.1', interface: 2 },
        { ...family('6'), address: 'fd00::5/64', interface: 2 },
      ],
      routes: [{ dst: '0.0.0.0/0', gw: '10.88.0.1' }, { dst: '::/0' }],
      dns: { nameservers: ['10.0.0.10'] },
    }
    const result = parseResult(JSON.stringify(raw), cniVersion)
    expect(result).toEqual({
      cniVersion,
      interfaces: [{ ...interfaces[0], sandbox: '' }, { ...interfaces[1], sandbox: '' }, interfaces[2]],
      ips: [
        { address: '10.88.0.5/16', gateway: '10.88.0.1', interface: 2 },
        { address: 'fd00::5/64', interface: 2 },
      ],
      routes: raw.routes,
      dns: { nameservers: ['10.0.0.10'], domain: '', search: [], options: [] },
      raw,
    })
    expect(sandboxIps(result, 'eth0')).toEqual(['10.88.0.5', 'fd00::5'])
  })

  it('takes a result without version, and null for lists, as Go writes them', () => {
    const result = parseResult('{"interfaces":null,"ips":null,"routes":null,"dns":{"search":null}}', '1.0.0')
    expect(result).toMatchObject({ cniVersion: '1.0.0', interfaces: [], ips: [], raw: { cniVersion: '1.0.0' } })
  })

  it('hands a result in another version back in the version of the attachment', () => {
    const raw = { cniVersion: '1.0.0', ips: [{ address: '10.0.0.2/24' }, { address: 'fd00::2/64' }], extra: 1 }
    expect(parseResult(JSON.stringify(raw), '0.4.0').raw).toEqual({
      cniVersion: '0.4.0',
      ips: [
        { version: '4', address: '10.0.0.2/24' },
        { version: '6', address: 'fd00::2/64' },
      ],
      extra: 1,
    })
  })

  it.each([
    '',
    'null',
    '[]',
    '{"ips":[{"address":"10.0.0.2"}]}',
    '{"ips":[{"address":"10.0.0.2/33"}]}',
    '{"ips":[{}]}',
    '{"ips":{}}',
    '{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}',
    '{"cniVersion":"2.0.0"}',
  ])('refuses %j', (stdout) => {
    expect(() => parseResult(stdout, '1.0.0')).toThrow(
      expect.objectContaining({ code: 'Internal', message: containing('not a CNI result') }),
    )
  })

  it('survives being stored', () => {
    const ip = fc.record({ address: fc.ipV4().map((a) => `${a}/24`), interface: fc.nat({ max: 3 }) })
    fc.assert(
      fc.property(fc.array(ip), (ips) => {
        const result = parseResult(JSON.stringify({ cniVersion: '1.0.0', interfaces, ips }), '1.0.0')
        expect(JSON.parse(JSON.stringify(result))).toEqual(result)
      }),
    )
  })
})

describe('sandboxIps', () => {
  it('puts the own interface first and leaves out what is on the host', () => {
    const raw = {
      interfaces: [...interfaces, { name: 'net1', sandbox: '/run/netns/x' }],
      ips: [
        { address: '10.3.0.1/24', interface: 3 },
        { address: '10.9.0.1/24', interface: 0 },
        { address: '10.1.0.1/24' },
        { address: '10.0.0.1/24', interface: 2 },
      ],
    }
    const result = parseResult(JSON.stringify(raw), '1.0.0')
    expect(sandboxIps(result, 'eth0')).toEqual(['10.0.0.1', '10.1.0.1', '10.3.0.1'])
  })
})
