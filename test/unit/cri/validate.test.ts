import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { CgroupDriver } from '../../../src/cri/validate-linux.ts'
import { validateRunPodSandbox } from '../../../src/cri/validate.ts'
import { cri, fakeNode } from './cri-server.ts'

/** The request as it arrives: what the defaults of the wire make of a few given fields. */
function received(request: object) {
  const { requestSerialize, requestDeserialize } = cri.RuntimeService.service.RunPodSandbox
  return requestDeserialize(requestSerialize(request))
}

const metadata = { name: 'web', namespace: 'default', uid: 'uid-1', attempt: 0 }

function validate(config: object | null, rest: object = {}, driver: CgroupDriver = 'cgroupfs') {
  return validateRunPodSandbox(received({ config, ...rest }), fakeNode({ cgroupDriver: driver }))
}

function refusal(run: () => unknown): { code: string; message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof CodedError) return { code: error.code, message: error.message }
    throw error
  }
  return { code: 'accepted', message: '' }
}

const withMetadata = (changes: object) => ({ metadata: { ...metadata, ...changes } })
const withLinux = (linux: object) => ({ metadata, linux })
const withSecurity = (security: object) => withLinux({ security_context: security })
const withNamespaces = (options: object) => withSecurity({ namespace_options: options })
const withPort = (port: object) => ({ metadata, port_mappings: [{ container_port: 80 }, port] })

const SECURITY = 'config.linux.security_context'
const NAMESPACES = `${SECURITY}.namespace_options`

const BAD: [field: string, config: object | null][] = [
  ['config', null],
  ['config.metadata', {}],
  ['config.metadata.name', withMetadata({ name: '' })],
  ['config.metadata.name', withMetadata({ name: '../../etc' })],
  ['config.metadata.name', withMetadata({ name: 'a/b' })],
  ['config.metadata.name', withMetadata({ name: '..' })],
  ['config.metadata.name', withMetadata({ name: 'a\nb' })],
  ['config.metadata.name', withMetadata({ name: 'a\u0000b' })],
  ['config.metadata.name', withMetadata({ name: 'a_b' })],
  ['config.metadata.name', withMetadata({ name: '-a' })],
  ['config.metadata.name', withMetadata({ name: 'a'.repeat(254) })],
  ['config.metadata.namespace', withMetadata({ namespace: '' })],
  ['config.metadata.namespace', withMetadata({ namespace: 'a/..' })],
  ['config.metadata.namespace', withMetadata({ namespace: 'a'.repeat(64) })],
  ['config.metadata.uid', withMetadata({ uid: '' })],
  ['config.metadata.uid', withMetadata({ uid: 'a/b' })],
  ['config.metadata.uid', withMetadata({ uid: 'a..b' })],
  ['config.metadata.uid', withMetadata({ uid: 'a b' })],
  ['config.metadata.uid', withMetadata({ uid: 'u'.repeat(129) })],
  ['config.hostname', { metadata, hostname: 'a b' }],
  ['config.hostname', { metadata, hostname: '-web' }],
  ['config.hostname', { metadata, hostname: 'web.' }],
  ['config.hostname', { metadata, hostname: 'web\n' }],
  ['config.hostname', { metadata, hostname: 'a'.repeat(65) }],
  ['config.log_directory', { metadata, log_directory: 'var/log' }],
  ['config.log_directory', { metadata, log_directory: '/var/log/../../etc' }],
  ['config.log_directory', { metadata, log_directory: '/var/log\n' }],
  ['config.log_directory', { metadata, log_directory: `/${'a'.repeat(4096)}` }],
  ['config.dns_config.servers[1]', { metadata, dns_config: { servers: ['10.0.0.1', 'dns.example'] } }],
  ['config.dns_config.searches[0]', { metadata, dns_config: { searches: ['a\nnameserver 1.2.3.4'] } }],
  ['config.dns_config.searches[0]', { metadata, dns_config: { searches: [''] } }],
  ['config.dns_config.searches', { metadata, dns_config: { searches: Array(33).fill('a') } }],
  ['config.dns_config.searches', { metadata, dns_config: { searches: Array(10).fill('a'.repeat(220)) } }],
  ['config.dns_config.options[0]', { metadata, dns_config: { options: ['ndots:5 debug'] } }],
  ['config.port_mappings[1].container_port', withPort({ container_port: -1 })],
  ['config.port_mappings[1].container_port', withPort({ container_port: 65536 })],
  ['config.port_mappings[1].host_port', withPort({ host_port: -8080 })],
  ['config.port_mappings[1].host_ip', withPort({ host_ip: 'localhost' })],
  ['config.port_mappings[1].protocol', withPort({ protocol: 7 })],
  ['config.labels["a\\nb"]', { metadata, labels: { 'a\nb': 'c' } }],
  ['config.labels', { metadata, labels: { a: 'x'.repeat(1024 * 1024) } }],
  ['config.annotations["__proto__"]', { metadata, annotations: Object.fromEntries([['__proto__', 'x']]) }],
  ['config.annotations', { metadata, annotations: { a: 'x'.repeat(600_000), b: 'x'.repeat(600_000) } }],
  ['config.linux.cgroup_parent', withLinux({ cgroup_parent: '/kubepods/../..' })],
  ['config.linux.cgroup_parent', withLinux({ cgroup_parent: '/kubepods\n' })],
  ['config.linux.cgroup_parent', withLinux({ cgroup_parent: 'kubepods.slice' })],
  ['config.linux.sysctls["kernel.hostname"]', withLinux({ sysctls: { 'kernel.hostname': 'x' } })],
  ['config.linux.sysctls["kernel.domainname"]', withLinux({ sysctls: { 'kernel.domainname': 'x' } })],
  ['config.linux.sysctls["vm.swappiness"]', withLinux({ sysctls: { 'vm.swappiness': '1' } })],
  ['config.linux.sysctls["kernel.shmmax\\n"]', withLinux({ sysctls: { 'kernel.shmmax\n': '1' } })],
  ['config.linux.sysctls["net.ipv4.ip_forward"]', withLinux({ sysctls: { 'net.ipv4.ip_forward': '1\n2' } })],
  [
    'config.linux.sysctls["net.ipv4.ip_forward"]',
    withLinux({
      sysctls: { 'net.ipv4.ip_forward': '1' },
      security_context: { namespace_options: { network: 'NODE' } },
    }),
  ],
  [
    'config.linux.sysctls["fs.mqueue.msg_max"]',
    withLinux({ sysctls: { 'fs.mqueue.msg_max': '1' }, security_context: { namespace_options: { ipc: 'NODE' } } }),
  ],
  ['config.linux.resources.cpu_shares', withLinux({ resources: { cpu_shares: '-1' } })],
  ['config.linux.resources.cpu_period', withLinux({ resources: { cpu_period: '-100000' } })],
  ['config.linux.resources.oom_score_adj', withLinux({ resources: { oom_score_adj: '1001' } })],
  ['config.linux.resources.cpuset_cpus', withLinux({ resources: { cpuset_cpus: '0-x' } })],
  [
    'config.linux.resources.hugepage_limits[0].page_size',
    withLinux({ resources: { hugepage_limits: [{ page_size: '../x', limit: '1' }] } }),
  ],
  ['config.linux.overhead.memory_limit_in_bytes', withLinux({ overhead: { memory_limit_in_bytes: '-2' } })],
  [`${NAMESPACES}.network`, withNamespaces({ network: 'CONTAINER' })],
  [`${NAMESPACES}.network`, withNamespaces({ network: 'TARGET' })],
  [`${NAMESPACES}.network`, withNamespaces({ network: 9 })],
  [`${NAMESPACES}.pid`, withNamespaces({ pid: 'TARGET' })],
  [`${NAMESPACES}.ipc`, withNamespaces({ ipc: 'CONTAINER' })],
  [`${NAMESPACES}.userns_options.mode`, withNamespaces({ userns_options: { mode: 'CONTAINER' } })],
  [`${NAMESPACES}.userns_options.uids`, withNamespaces({ userns_options: { mode: 'NODE', uids: [{ length: 1 }] } })],
  [`${SECURITY}.run_as_user`, withSecurity({ run_as_user: { value: '-1' } })],
  [`${SECURITY}.run_as_user`, withSecurity({ run_as_user: { value: '2147483648' } })],
  [`${SECURITY}.run_as_user`, withSecurity({ run_as_user: { value: '9223372036854775807' } })],
  [`${SECURITY}.run_as_group`, withSecurity({ run_as_group: { value: '1' } })],
  [`${SECURITY}.supplemental_groups[1]`, withSecurity({ supplemental_groups: ['1', '-1'] })],
  [`${SECURITY}.supplemental_groups_policy`, withSecurity({ supplemental_groups_policy: 5 })],
  [`${SECURITY}.seccomp.profile_type`, withSecurity({ seccomp: { profile_type: 3 } })],
  [`${SECURITY}.seccomp.localhost_ref`, withSecurity({ seccomp: { profile_type: 'Localhost' } })],
  [
    `${SECURITY}.seccomp.localhost_ref`,
    withSecurity({ seccomp: { profile_type: 'Localhost', localhost_ref: '/etc/../x' } }),
  ],
  [`${SECURITY}.apparmor.localhost_ref`, withSecurity({ apparmor: { profile_type: 'Localhost' } })],
  [`${SECURITY}.selinux_options.type`, withSecurity({ selinux_options: { type: 'a:b' } })],
  ['config.windows', { metadata, windows: {} }],
]

const nodeWithUserNamespaces = fakeNode({
  runtimeHandlers: () => [{ name: '', hasRecursiveReadOnlyMounts: true, hasUserNamespaces: true }],
})

describe('validateRunPodSandbox', () => {
  it.each(BAD)('refuses a bad %s and names it', (field, config) => {
    const { code, message } = refusal(() => validate(config))
    expect(code).toBe('InvalidArgument')
    expect(message.slice(0, field.length + 2)).toBe(`${field}: `)
    expect(message).not.toContain('\n')
  })

  it.each(['a/b', '..', 'a\tb', 'x'.repeat(254)])('refuses the runtime handler %j', (runtimeHandler) => {
    const { code, message } = refusal(() => validate({ metadata }, { runtime_handler: runtimeHandler }))
    expect(code).toBe('InvalidArgument')
    expect(message).toMatch(/^runtime_handler: /)
  })

  it('refuses a user namespace as something that is not there', () => {
    const ids = [{ host_id: 65536, container_id: 0, length: 65536 }]
    const config = withNamespaces({ userns_options: { mode: 'POD', uids: ids, gids: ids } })
    expect(refusal(() => validate(config))).toEqual({
      code: 'FailedPrecondition',
      message: `${NAMESPACES}.userns_options: user namespaces are not supported by runtime handler`,
    })
  })

  it.each([
    ['no mapping', []],
    [
      'two mappings',
      [
        { host_id: 1000, length: 10 },
        { host_id: 2000, length: 10, container_id: 10 },
      ],
    ],
    ['a mapping without root', [{ host_id: 1000, container_id: 1, length: 10 }]],
    ['an empty mapping', [{ host_id: 1000, length: 0 }]],
    ['a mapping beyond all ids', [{ host_id: 4294967295, length: 1 }]],
  ])('refuses a user namespace with %s where the handler has them', (_, uids) => {
    const gids = [{ host_id: 1000, length: 10 }]
    const request = received({ config: withNamespaces({ userns_options: { mode: 'POD', uids, gids } }) })
    const { code, message } = refusal(() => validateRunPodSandbox(request, nodeWithUserNamespaces))
    expect(code).toBe('InvalidArgument')
    expect(message).toContain(`${NAMESPACES}.userns_options.uids`)
  })

  it('accepts what kubelet sends', () => {
    const config = {
      metadata: { name: 'coredns-7db6d8ff4d-x2x7k', namespace: 'kube-system', uid: crypto.randomUUID(), attempt: 3 },
      hostname: 'coredns-7db6d8ff4d-x2x7k',
      log_directory: '/var/log/pods/kube-system_coredns-7db6d8ff4d-x2x7k_0b9d',
      dns_config: {
        servers: ['10.96.0.10', 'fd00::a'],
        searches: ['kube-system.svc.cluster.local', 'cluster.local', '.'],
        options: ['ndots:5', 'edns0'],
      },
      port_mappings: [{ protocol: 'SCTP', container_port: 53, host_port: 0, host_ip: '::1' }],
      labels: { 'io.kubernetes.pod.name': 'coredns', empty: '' },
      annotations: { 'kubernetes.io/config.source': 'api', text: 'two\nlines' },
      linux: {
        cgroup_parent: '/kubepods/burstable/pod0b9d',
        sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0', 'kernel/shm_rmid_forced': '1' },
        overhead: {},
        resources: { cpu_period: '100000', cpu_quota: '-1', cpu_shares: '102', memory_limit_in_bytes: '178257920' },
        security_context: {
          namespace_options: { network: 'POD', pid: 'CONTAINER', ipc: 'POD', userns_options: { mode: 'NODE' } },
          run_as_user: { value: '65535' },
          run_as_group: { value: '65535' },
          supplemental_groups: ['1', '2147483647'],
          seccomp: { profile_type: 'Localhost', localhost_ref: '/var/lib/kubelet/seccomp/audit.json' },
          apparmor: { profile_type: 'Localhost', localhost_ref: 'k8s-apparmor-example' },
          selinux_options: { user: 'system_u', role: 'system_r', type: 'container_t', level: 's0:c1,c2' },
        },
      },
    }
    const request = received({ config, runtime_handler: 'crun' })
    expect(validateRunPodSandbox(request, fakeNode())).toEqual({ config: request.config, runtimeHandler: 'crun' })
  })

  it('accepts the names that critest makes, and a slice with the systemd driver', () => {
    const config = {
      metadata: {
        name: `PodSandbox-for-creating-simple-container-${crypto.randomUUID()}`,
        namespace: `cri-test-namespace${crypto.randomUUID()}`,
        uid: `cri-test-uid${crypto.randomUUID()}`,
        attempt: 4294967295,
      },
      linux: { cgroup_parent: '/kubepods.slice/kubepods-pod1.slice' },
    }
    expect(refusal(() => validate(config, {}, 'systemd')).code).toBe('accepted')
  })
})
