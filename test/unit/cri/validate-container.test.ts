import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { validateCreateContainer } from '../../../src/cri/validate-container.ts'
import { cri } from './cri-server.ts'

/** The request as it arrives: what the defaults of the wire make of a few given fields. */
function received(request: object) {
  const { requestSerialize, requestDeserialize } = cri.RuntimeService.service.CreateContainer
  return requestDeserialize(requestSerialize(request))
}

const GOOD = { metadata: { name: 'main' }, image: { image: 'busybox' } }
const SECURITY = 'config.linux.security_context'
const NAMESPACES = `${SECURITY}.namespace_options`
const MAPPING = { host_id: 1000, container_id: 0, length: 65536 }

function validate(config: object | null, pod_sandbox_id = 'p') {
  return validateCreateContainer(received({ pod_sandbox_id, config }))
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

const withImage = (image: object) => ({ ...GOOD, image: { image: 'busybox', ...image } })
const withEnv = (key: string, value: Buffer | string) => ({ ...GOOD, envs: [{ key, value: Buffer.from(value) }] })
const withMount = (mount: object) => ({ ...GOOD, mounts: [{ container_path: '/data', host_path: '/data', ...mount }] })
const withImageMount = (mount: object) => withMount({ host_path: '', image: { image: 'busybox' }, ...mount })
const withDevice = (device: object) => ({
  ...GOOD,
  devices: [{ host_path: '/dev/null', permissions: 'rw', ...device }],
})
const withResources = (resources: object) => ({ ...GOOD, linux: { resources } })
const withSecurity = (security: object) => ({ ...GOOD, linux: { security_context: security } })
const withNamespaces = (options: object) => withSecurity({ namespace_options: options })
const withUserns = (options: object) =>
  withNamespaces({ userns_options: { mode: 'POD', uids: [MAPPING], gids: [MAPPING], ...options } })
const withCapabilities = (capabilities: object) => withSecurity({ capabilities })

const BAD: [field: string, config: object | null][] = [
  ['config', null],
  ['config.metadata', { image: { image: 'busybox' } }],
  ['config.metadata.name', { ...GOOD, metadata: {} }],
  ['config.metadata.name', { ...GOOD, metadata: { name: 'a_b' } }],
  ['config.metadata.name', { ...GOOD, metadata: { name: '../../etc' } }],
  ['config.metadata.name', { ...GOOD, metadata: { name: 'a\nb' } }],
  ['config.metadata.name', { ...GOOD, metadata: { name: 'a'.repeat(254) } }],
  ['config.image', { metadata: { name: 'main' } }],
  ['config.image.image', withImage({ image: '' })],
  ['config.image.image', withImage({ image: 'busy box' })],
  ['config.image.image', withImage({ image: 'a'.repeat(1025) })],
  ['config.image.user_specified_image', withImage({ user_specified_image: 'a\nb' })],
  ['config.command[1]', { ...GOOD, command: ['sh', 'a\0b'] }],
  ['config.args[0]', { ...GOOD, args: ['\0'] }],
  ['config.envs[0].key', withEnv('', 'x')],
  ['config.envs[0].key', withEnv('A=B', 'x')],
  ['config.envs[0].key', withEnv('A\nB', 'x')],
  ['config.envs[0].value', withEnv('A', 'x\0y')],
  ['config.envs[0].value', withEnv('A', Buffer.from([0xff]))],
  ['config.envs[0].value', withEnv('HOME', '/root\nroot2:x:0:0::/:/bin/sh')],
  ['config.envs[0].value', withEnv('HOME', '/root\r')],
  ['config.working_dir', { ...GOOD, working_dir: 'tmp' }],
  ['config.working_dir', { ...GOOD, working_dir: '/tmp\n' }],
  ['config.mounts[0].container_path', withMount({ container_path: '' })],
  ['config.mounts[0].container_path', withMount({ container_path: 'data' })],
  ['config.mounts[0].container_path', withMount({ container_path: '/data/../etc' })],
  ['config.mounts[0].container_path', withMount({ container_path: '//./' })],
  ['config.mounts[0].host_path', withMount({ host_path: '' })],
  ['config.mounts[0].host_path', withMount({ host_path: 'data' })],
  ['config.mounts[0].host_path', withMount({ host_path: '/data/../etc' })],
  ['config.mounts[0].host_path', withMount({ host_path: '/data\0' })],
  ['config.mounts[0].host_path', withMount({ image: { image: 'busybox' } })],
  ['config.mounts[0].image.image', withImageMount({ image: { image: 'busy\nbox' } })],
  ['config.mounts[0].image_sub_path', withMount({ image_sub_path: 'etc' })],
  ['config.mounts[0].image_sub_path', withImageMount({ image_sub_path: '/etc' })],
  ['config.mounts[0].image_sub_path', withImageMount({ image_sub_path: 'a/../../etc' })],
  ['config.mounts[0].propagation', withMount({ propagation: 3 })],
  ['config.mounts[0].recursive_read_only', withMount({ recursive_read_only: true })],
  [
    'config.mounts[0].recursive_read_only',
    withMount({ recursive_read_only: true, readonly: true, propagation: 'PROPAGATION_BIDIRECTIONAL' }),
  ],
  ['config.mounts[0].uidMappings', withMount({ uidMappings: [MAPPING] })],
  ['config.mounts[0].gidMappings[0].length', withMount({ gidMappings: [{ ...MAPPING, length: 0 }] })],
  ['config.mounts[0].mount_options', withMount({ mount_options: ['noexec'] })],
  ['config.devices[0].host_path', withDevice({ host_path: 'null' })],
  ['config.devices[0].container_path', withDevice({ container_path: '/dev/../etc' })],
  ['config.devices[0].permissions', withDevice({ permissions: 'rx' })],
  ['config.CDI_devices[0].name', { ...GOOD, CDI_devices: [{ name: '' }] }],
  ['config.labels["a\\nb"]', { ...GOOD, labels: { 'a\nb': 'c' } }],
  ['config.annotations', { ...GOOD, annotations: { a: 'x'.repeat(1024 * 1024) } }],
  ['config.log_path', { ...GOOD, log_path: '/var/log/x' }],
  ['config.log_path', { ...GOOD, log_path: 'main/../../x' }],
  ['config.log_path', { ...GOOD, log_path: 'main/' }],
  ['config.log_path', { ...GOOD, log_path: 'main\n0.log' }],
  ['config.log_path', { ...GOOD, log_path: 'a'.repeat(4097) }],
  ['config.stop_signal', { ...GOOD, stop_signal: 66 }],
  ['config.windows', { ...GOOD, windows: {} }],
  ['config.linux.resources.cpu_shares', withResources({ cpu_shares: '-1' })],
  ['config.linux.resources.memory_limit_in_bytes', withResources({ memory_limit_in_bytes: '-2' })],
  ['config.linux.resources.oom_score_adj', withResources({ oom_score_adj: '1001' })],
  ['config.linux.resources.cpuset_cpus', withResources({ cpuset_cpus: '0-\n' })],
  ['config.linux.resources.unified["cgroup.procs"]', withResources({ unified: { 'cgroup.procs': '1' } })],
  [`${SECURITY}.run_as_user.value`, withSecurity({ run_as_user: { value: '-1' } })],
  [`${SECURITY}.run_as_user.value`, withSecurity({ run_as_user: { value: '2147483648' } })],
  [`${SECURITY}.run_as_user.value`, withSecurity({ run_as_user: { value: '4294967296' } })],
  [`${SECURITY}.run_as_user.value`, withSecurity({ run_as_user: { value: '9223372036854775807' } })],
  [`${SECURITY}.run_as_group.value`, withSecurity({ run_as_user: {}, run_as_group: { value: '-1' } })],
  [`${SECURITY}.run_as_group`, withSecurity({ run_as_group: { value: '1' } })],
  [`${SECURITY}.run_as_username`, withSecurity({ run_as_user: {}, run_as_username: 'nobody' })],
  [`${SECURITY}.run_as_username`, withSecurity({ run_as_username: 'a:b' })],
  [`${SECURITY}.run_as_username`, withSecurity({ run_as_username: 'a\nb' })],
  [`${SECURITY}.supplemental_groups[1]`, withSecurity({ supplemental_groups: ['1', '2147483648'] })],
  [`${SECURITY}.supplemental_groups_policy`, withSecurity({ supplemental_groups_policy: 5 })],
  [`${SECURITY}.masked_paths[0]`, withSecurity({ masked_paths: ['proc/kcore'] })],
  [`${SECURITY}.readonly_paths[0]`, withSecurity({ readonly_paths: ['/proc/../etc'] })],
  [`${SECURITY}.seccomp.localhost_ref`, withSecurity({ seccomp: { profile_type: 'Localhost' } })],
  [`${SECURITY}.apparmor.profile_type`, withSecurity({ apparmor: { profile_type: 7 } })],
  [`${SECURITY}.apparmor_profile`, withSecurity({ apparmor_profile: 'localhost/\n' })],
  [`${SECURITY}.selinux_options.level`, withSecurity({ selinux_options: { level: 's0 c1' } })],
  [`${SECURITY}.capabilities.add_capabilities[1]`, withCapabilities({ add_capabilities: ['NET_ADMIN', 'NET_ADMIM'] })],
  [`${SECURITY}.capabilities.drop_capabilities[0]`, withCapabilities({ drop_capabilities: [''] })],
  [`${SECURITY}.capabilities.add_ambient_capabilities[0]`, withCapabilities({ add_ambient_capabilities: ['ALL'] })],
  [`${NAMESPACES}.network`, withNamespaces({ network: 'CONTAINER' })],
  [`${NAMESPACES}.ipc`, withNamespaces({ ipc: 'TARGET' })],
  [`${NAMESPACES}.pid`, withNamespaces({ pid: 4 })],
  [`${NAMESPACES}.target_id`, withNamespaces({ pid: 'TARGET' })],
  [`${NAMESPACES}.userns_options.mode`, withUserns({ mode: 'TARGET' })],
  [
    `${NAMESPACES}.userns_options.mode`,
    withNamespaces({ network: 'NODE', userns_options: { mode: 'POD', uids: [MAPPING], gids: [MAPPING] } }),
  ],
  [`${NAMESPACES}.userns_options.uids`, withUserns({ uids: [] })],
  [`${NAMESPACES}.userns_options.gids`, withUserns({ gids: [MAPPING, MAPPING] })],
  [`${NAMESPACES}.userns_options.uids[0].container_id`, withUserns({ uids: [{ ...MAPPING, container_id: 1 }] })],
]

/** Text as attackers and mistakes make it. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    '',
    '/',
    '..',
    '/..',
    '/a/../b',
    'a\nb',
    '\0',
    'ALL',
    'CAP_KILL',
    '/dev/null',
    'busybox',
    '__proto__',
  ),
)
const texts = fc.array(text, { maxLength: 3 })
const uint32 = fc.nat({ max: 0xffff_ffff })
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)
const enumNumber = fc.integer({ min: -1, max: 70 })
const map = fc.dictionary(text, text, { maxKeys: 3 })
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null })
const list = <T>(arbitrary: fc.Arbitrary<T>) => fc.array(arbitrary, { maxLength: 2 })

const image = fc.record({
  image: text,
  user_specified_image: text,
  runtime_handler: text,
  image_ref: text,
  annotations: map,
})
const mapping = fc.record({ host_id: uint32, container_id: uint32, length: uint32 })
const namespaceOptions = fc.record({
  network: enumNumber,
  pid: enumNumber,
  ipc: enumNumber,
  target_id: text,
  userns_options: maybe(fc.record({ mode: enumNumber, uids: list(mapping), gids: list(mapping) })),
})
const profile = fc.record({ profile_type: enumNumber, localhost_ref: text })
const securityContext = fc.record({
  capabilities: maybe(
    fc.record({ add_capabilities: texts, drop_capabilities: texts, add_ambient_capabilities: texts }),
  ),
  privileged: fc.boolean(),
  namespace_options: maybe(namespaceOptions),
  selinux_options: maybe(fc.record({ user: text, role: text, type: text, level: text })),
  run_as_user: maybe(fc.record({ value: int64 })),
  run_as_group: maybe(fc.record({ value: int64 })),
  run_as_username: text,
  supplemental_groups: list(int64),
  supplemental_groups_policy: enumNumber,
  masked_paths: texts,
  readonly_paths: texts,
  seccomp: maybe(profile),
  apparmor: maybe(profile),
  apparmor_profile: text,
  seccomp_profile_path: text,
})
const resources = fc.record({
  cpu_period: int64,
  cpu_quota: int64,
  cpu_shares: int64,
  memory_limit_in_bytes: int64,
  memory_swap_limit_in_bytes: int64,
  oom_score_adj: int64,
  cpuset_cpus: text,
  cpuset_mems: text,
  hugepage_limits: list(fc.record({ page_size: text, limit: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String) })),
  unified: map,
})
const mount = fc.record({
  container_path: text,
  host_path: text,
  readonly: fc.boolean(),
  propagation: enumNumber,
  uidMappings: list(mapping),
  gidMappings: list(mapping),
  recursive_read_only: fc.boolean(),
  image: maybe(image),
  image_sub_path: text,
  mount_options: texts,
})
const part = {
  metadata: maybe(fc.record({ name: text, attempt: uint32 })),
  image: maybe(image),
  command: texts,
  args: texts,
  working_dir: text,
  envs: list(fc.record({ key: text, value: fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes)) })),
  mounts: list(mount),
  devices: list(fc.record({ container_path: text, host_path: text, permissions: text })),
  labels: map,
  annotations: map,
  log_path: text,
  linux: fc.record({ resources: maybe(resources), security_context: maybe(securityContext) }),
  CDI_devices: list(fc.record({ name: text })),
  stop_signal: enumNumber,
}

describe('validateCreateContainer', () => {
  it.each(BAD)('refuses a bad %s and names it', (field, config) => {
    const { code, message } = refusal(() => validate(config))
    expect(code).toBe('InvalidArgument')
    expect(message.slice(0, field.length + 2)).toBe(`${field}: `)
    expect(message).not.toContain('\n')
  })

  it('refuses an empty pod id', () => {
    expect(refusal(() => validate(GOOD, ''))).toMatchObject({ code: 'InvalidArgument' })
  })

  it('accepts what kubelet sends, and hands it on as it came', () => {
    const request = received({
      pod_sandbox_id: 'p',
      config: {
        metadata: { name: 'nginx', attempt: 4294967295 },
        image: { image: `sha256:${'a'.repeat(64)}`, user_specified_image: 'nginx:1.27', annotations: { a: 'b\nc' } },
        command: ['/bin/sh', '-c'],
        args: ['echo a\nb\tc', ''],
        working_dir: '/usr/src/../app',
        envs: [
          { key: 'HOME', value: Buffer.from('/root') },
          { key: 'TEXT', value: Buffer.from('ä\n') },
          { key: 'some.key-1', value: Buffer.alloc(0) },
        ],
        mounts: [
          { container_path: '/etc/hosts', host_path: '/var/lib/kubelet/pods/1/etc-hosts', selinux_relabel: true },
          { container_path: '/ro', host_path: '/ro', readonly: true, recursive_read_only: true },
          { container_path: '/img', image: { image: `sha256:${'b'.repeat(64)}` }, image_sub_path: 'a/b..c' },
          { container_path: '/idmapped', host_path: '/vol', uidMappings: [MAPPING], gidMappings: [MAPPING] },
        ],
        devices: [
          { container_path: '/dev/fuse', host_path: '/dev/fuse', permissions: 'rwm' },
          { host_path: '/dev/kvm' },
        ],
        labels: { 'io.kubernetes.container.name': 'nginx' },
        annotations: { 'io.kubernetes.container.hash': '1\n2' },
        log_path: 'nginx/0.log',
        tty: true,
        stdin_once: true,
        CDI_devices: [{ name: 'vendor.com/device=gpu0' }],
        stop_signal: 'SIGNAL_SIGRTMINPLUS3',
        linux: {
          resources: {
            cpu_period: '100000',
            cpu_quota: '-1',
            cpu_shares: '2',
            oom_score_adj: '-997',
            unified: { 'memory.high': '1' },
          },
          security_context: {
            capabilities: {
              add_capabilities: ['ALL', 'net_admin'],
              drop_capabilities: ['ALL', 'CAP_SYS_ADMIN'],
              add_ambient_capabilities: ['NET_RAW'],
            },
            namespace_options: {
              pid: 'TARGET',
              target_id: 'c'.repeat(64),
              userns_options: { mode: 'POD', uids: [MAPPING], gids: [MAPPING] },
            },
            run_as_username: 'www-data',
            run_as_group: { value: '2147483647' },
            supplemental_groups: ['0', '2147483647'],
            supplemental_groups_policy: 'Strict',
            masked_paths: ['/proc/kcore'],
            readonly_paths: ['/proc/sys'],
            no_new_privs: true,
            privileged: true,
            seccomp: { profile_type: 'RuntimeDefault' },
            apparmor: { profile_type: 'Unconfined' },
          },
        },
      },
    })
    expect(validateCreateContainer(request)).toEqual({ sandboxId: 'p', config: request.config })
  })

  it('throws nothing but InvalidArgument that names a field, whatever one part of the request is', () => {
    const keys = Object.keys(part) as (keyof typeof part)[]
    const config = fc
      .constantFrom(...keys)
      .chain((key) => part[key].map((value) => ({ ...GOOD, [key]: value as unknown })))
    fc.assert(
      fc.property(config, (given) => {
        const { code, message } = refusal(() => validate(given))
        if (code === 'accepted') return
        expect(code).toBe('InvalidArgument')
        expect(message).toMatch(/^config\.[\w.[\]"]/)
        expect(message).not.toMatch(/[\n\0]/)
      }),
      { numRuns: 2000 },
    )
  })

  it('throws nothing but InvalidArgument for all of it at once', () => {
    fc.assert(
      fc.property(fc.record(part), (config) => {
        expect(['accepted', 'InvalidArgument']).toContain(refusal(() => validate(config)).code)
      }),
      { numRuns: 200 },
    )
  })
})
