import { describe, expect, it } from 'vitest'
import { isCidr, podCapabilities, primaryCapabilities } from '../../../src/cni/capabilities.ts'
import type { PortMapping__Output } from '../../../src/generated/runtime/v1/PortMapping.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'

const mapping = (part: Partial<PortMapping__Output>): PortMapping__Output => ({
  protocol: 'TCP',
  container_port: 80,
  host_port: 8080,
  host_ip: '',
  ...part,
})

describe('primaryCapabilities', () => {
  it('maps TCP, UDP and SCTP ports and keeps the host address', () => {
    const port_mappings = [
      mapping({}),
      mapping({ protocol: 'UDP', host_ip: '127.0.0.1' }),
      mapping({ protocol: 'SCTP', host_ip: '::1' }),
    ]
    expect(primaryCapabilities(podConfig({ port_mappings }), [])).toEqual({
      portMappings: [
        { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
        { hostPort: 8080, containerPort: 80, protocol: 'udp', hostIP: '127.0.0.1' },
        { hostPort: 8080, containerPort: 80, protocol: 'sctp', hostIP: '::1' },
      ],
    })
  })

  it('maps nothing for host port 0', () => {
    expect(primaryCapabilities(podConfig({ port_mappings: [mapping({ host_port: 0 })] }), [])).toEqual({})
  })

  it.each([
    ['host_port', { host_port: -1 }],
    ['host_port', { host_port: 65536 }],
    ['container_port', { container_port: -1 }],
    ['container_port', { container_port: 0 }],
    ['container_port', { container_port: 70000 }],
    ['host_ip', { host_ip: 'localhost' }],
    ['protocol', { protocol: 7 as unknown as 'TCP' }],
  ] as const)('names %s of %j', (field, part) => {
    const config = podConfig({ port_mappings: [mapping({}), mapping(part)] })
    expect(() => primaryCapabilities(config, [])).toThrow(`config.port_mappings[1].${field}`)
  })

  it('asks for one address of each pod CIDR', () => {
    expect(primaryCapabilities(podConfig(), ['10.1.0.0/24', 'fd00::/64'])).toEqual({
      ipRanges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]],
    })
  })
})

describe('podCapabilities', () => {
  it('passes DNS, cgroup parent and annotations', () => {
    const config = podConfig({
      dns_config: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
      annotations: { a: 'b' },
    })
    const linux = { cgroup_parent: '/kubepods/pod1' } as NonNullable<typeof config.linux>
    expect(podCapabilities({ ...config, linux })).toEqual({
      dns: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
      cgroupPath: '/kubepods/pod1',
      'io.kubernetes.cri.pod-annotations': { a: 'b' },
    })
  })

  it('says nothing where the pod says nothing', () => {
    const config = podConfig({ dns_config: { servers: [], searches: [], options: [] } })
    expect(podCapabilities(config)).toEqual({ 'io.kubernetes.cri.pod-annotations': {} })
  })

  it('reads either bandwidth annotation', () => {
    const annotations = { 'kubernetes.io/ingress-bandwidth': '10M' }
    expect(podCapabilities(podConfig({ annotations }))['bandwidth']).toEqual({
      ingressRate: 10_000_000,
      ingressBurst: 2147483647,
    })
    const both = { ...annotations, 'kubernetes.io/egress-bandwidth': '1P' }
    expect(podCapabilities(podConfig({ annotations: both }))['bandwidth']).toMatchObject({
      ingressRate: 10_000_000,
      egressRate: 10 ** 15,
    })
  })

  it.each(['-10M', '0', '999', '1.1P', 'fast', ''])('refuses a bandwidth of %j', (value) => {
    const annotations = { 'kubernetes.io/egress-bandwidth': value }
    expect(() => podCapabilities(podConfig({ annotations }))).toThrow(
      'config.annotations[kubernetes.io/egress-bandwidth]',
    )
  })
})

describe('isCidr', () => {
  it('knows subnets', () => {
    expect(['10.0.0.0/8', '10.0.0.1/32', 'fd00::/64', '::/0'].every(isCidr)).toBe(true)
    expect(
      ['', '10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'fd00::/129', 'x/8', '10.0.0.0/-1'].some(isCidr),
    ).toBe(false)
  })
})
