import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { SecurityProfile__Output } from '../../../src/generated/runtime/v1/SecurityProfile.ts'
import { resolveSeccomp, type SeccompTarget, seccompFilter } from '../../../src/oci/seccomp.ts'
import { parseSeccompProfile } from '../../../src/oci/seccomp-profile.ts'
import type { LinuxSeccomp } from '../../../src/oci/spec.ts'
import { coded } from './fixtures.ts'

const DEBIAN_PROFILE = '/usr/share/containers/seccomp.json'
const TARGET: SeccompTarget = { capabilities: [], arch: 'x64', kernelVersion: '6.1.0-18-amd64' }
const parse = (profile: object) => parseSeccompProfile(JSON.stringify(profile), 'test.json')
const filter = (profile: object, change: Partial<SeccompTarget> = {}) =>
  seccompFilter(parse(profile), { ...TARGET, ...change })
const allowed = (names: string[], extra: object = {}) => ({
  defaultAction: 'SCMP_ACT_ERRNO',
  syscalls: [{ names, action: 'SCMP_ACT_ALLOW', ...extra }],
})
const namesOf = (result: LinuxSeccomp): string[] => result.syscalls.flatMap((rule) => rule.names)

describe('parseSeccompProfile', () => {
  it('takes a plain OCI profile as it is', () => {
    const oci = {
      defaultAction: 'SCMP_ACT_ERRNO',
      architectures: ['SCMP_ARCH_X86_64'],
      flags: ['SECCOMP_FILTER_FLAG_LOG'],
      syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }],
    }
    expect(filter(oci)).toEqual(oci)
  })

  it('keeps 64-bit arguments exact', () => {
    const text = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":
      [{"index":0,"value":18446744073709551615,"valueTwo" : 9007199254740993,"op":"SCMP_CMP_MASKED_EQ"}]}]}`
    expect(seccompFilter(parseSeccompProfile(text, 't'), TARGET).syscalls[0]?.args).toEqual([
      { index: 0, value: 18446744073709551615n, valueTwo: 9007199254740993n, op: 'SCMP_CMP_MASKED_EQ' },
    ])
  })

  it.each([
    ['an unknown action', { defaultAction: 'SCMP_ACT_PERMIT' }, 'defaultAction'],
    ['an unknown action of a rule', allowed(['read'], { action: 'ALLOW' }), 'syscalls.0.action'],
    ['a rule without system call', allowed([]), 'syscalls.0'],
    ['an unknown flag', { ...allowed(['read']), flags: ['X'] }, 'flags.0'],
    ['an unknown operator', allowed(['read'], { args: [{ index: 0, value: 1, op: 'EQ' }] }), 'args.0.op'],
    ['a seventh argument', allowed(['read'], { args: [{ index: 6, value: 1, op: 'SCMP_CMP_EQ' }] }), 'args.0.index'],
    ['a negative value', allowed(['read'], { args: [{ index: 0, value: -1, op: 'SCMP_CMP_EQ' }] }), 'args.0.value'],
    ['notify without a listener', { defaultAction: 'SCMP_ACT_NOTIFY' }, 'listenerPath'],
    [
      'both kinds of architectures',
      { defaultAction: 'SCMP_ACT_LOG', architectures: ['SCMP_ARCH_X86'], archMap: [{ architecture: 'SCMP_ARCH_X86' }] },
      'archMap',
    ],
    ['no object', [], 'profile'],
  ])('refuses %s', (_, profile, where) => {
    expect(() => parse(profile)).toThrow(coded('InvalidArgument', new RegExp(`test.json: .*${where}`)))
  })

  it('refuses what is no JSON, and more than 1 MiB', () => {
    expect(() => parseSeccompProfile('{', 'x')).toThrow('x: not JSON')
    expect(() => parseSeccompProfile(' '.repeat(1024 * 1024 + 1), 'x')).toThrow('larger than')
  })
})

describe('seccompFilter', () => {
  it('keeps a rule only where the capability that guards it is there', () => {
    const guarded = allowed(['bpf'], { includes: { caps: ['CAP_SYS_ADMIN', 'CAP_BPF'] } })
    expect(namesOf(filter(guarded))).toEqual([])
    expect(namesOf(filter(guarded, { capabilities: ['CAP_SYS_ADMIN'] }))).toEqual([])
    expect(namesOf(filter(guarded, { capabilities: ['CAP_BPF', 'CAP_SYS_ADMIN'] }))).toEqual(['bpf'])
    const denied = allowed(['clone'], { excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_BPF'] } })
    expect(namesOf(filter(denied))).toEqual(['clone'])
    expect(namesOf(filter(denied, { capabilities: ['CAP_BPF'] }))).toEqual([])
  })

  it('keeps a rule only on its architectures', () => {
    const arch = allowed(['arch_prctl'], { includes: { arches: ['amd64', 'x32'] } })
    expect(namesOf(filter(arch))).toEqual(['arch_prctl'])
    expect(namesOf(filter(arch, { arch: 'arm64' }))).toEqual([])
    const not = allowed(['clone'], { excludes: { arches: ['s390x'] } })
    expect(namesOf(filter(not))).toEqual(['clone'])
    expect(namesOf(filter(not, { arch: 's390x' }))).toEqual([])
  })

  it.each([
    ['4.8', '6.1.0-18-amd64', true],
    ['6.1', '6.1.0', true],
    ['6.2', '6.1.9', false],
    ['6.10', '6.9.1', false],
    ['6.9', '6.18.44-x', true],
  ])('minKernel %s on %s: %s', (minKernel, kernelVersion, holds) => {
    const result = filter(allowed(['ptrace'], { includes: { minKernel } }), { kernelVersion })
    expect(namesOf(result)).toEqual(holds ? ['ptrace'] : [])
  })

  it('maps the node’s architecture', () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      archMap: [{ architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] }],
    }
    expect(filter(profile, { arch: 'arm64' }).architectures).toEqual(['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'])
    expect(filter(profile).architectures).toEqual(['SCMP_ARCH_X86_64'])
    expect(() => filter(profile, { arch: 'vax' })).toThrow(coded('FailedPrecondition'))
  })

  it('writes an error number only for the actions that return one', () => {
    const result = filter({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrno: 'ENOSYS',
      syscalls: [
        { name: 'a', action: 'SCMP_ACT_ERRNO', errnoRet: 0, errno: 'EPERM' },
        { names: ['b'], action: 'SCMP_ACT_ALLOW', errnoRet: 1 },
      ],
    })
    expect(result.defaultErrnoRet).toBe(38)
    expect(result.syscalls).toEqual([
      { names: ['a'], action: 'SCMP_ACT_ERRNO', errnoRet: 0 },
      { names: ['b'], action: 'SCMP_ACT_ALLOW' },
    ])
  })

  it.skipIf(!existsSync(DEBIAN_PROFILE))('translates the profile of the node', () => {
    const profile = parseSeccompProfile(readFileSync(DEBIAN_PROFILE, 'utf8'), DEBIAN_PROFILE)
    const plain = seccompFilter(profile, TARGET)
    expect(plain.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'])
    expect(plain).toMatchObject({ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 38 })
    const rulesFor = (result: LinuxSeccomp, name: string) => result.syscalls.filter((rule) => rule.names.includes(name))
    expect(rulesFor(plain, 'bpf').map((rule) => rule.action)).toEqual(['SCMP_ACT_ERRNO'])
    expect(rulesFor(plain, 'arch_prctl')).toHaveLength(1)
    expect(rulesFor(plain, 'pause')).toHaveLength(1)
    expect(Object.keys(plain.syscalls[0] ?? {}).sort()).toEqual(['action', 'errnoRet', 'names'])
    const admin = seccompFilter(profile, { ...TARGET, capabilities: ['CAP_SYS_ADMIN'] })
    expect(rulesFor(admin, 'bpf').map((rule) => rule.action)).toEqual(['SCMP_ACT_ALLOW'])
  })
})

describe('resolveSeccomp', () => {
  const profile = (
    profile_type: SecurityProfile__Output['profile_type'],
    localhost_ref = '',
  ): SecurityProfile__Output => ({
    profile_type,
    localhost_ref,
  })

  it.each([
    [null, '', { kind: 'unconfined' }],
    [null, 'unconfined', { kind: 'unconfined' }],
    [null, 'runtime/default', { kind: 'default' }],
    [null, 'docker/default', { kind: 'default' }],
    [null, 'localhost//etc/p.json', { kind: 'localhost', ref: '/etc/p.json' }],
    [profile('RuntimeDefault'), 'unconfined', { kind: 'default' }],
    [profile('Unconfined'), 'runtime/default', { kind: 'unconfined' }],
    [profile('Localhost', '/etc/p.json'), '', { kind: 'localhost', ref: '/etc/p.json' }],
    [profile('Localhost', 'localhost//etc/p.json'), '', { kind: 'localhost', ref: '/etc/p.json' }],
  ])('%j, %j', (given, legacy, expected) => {
    expect(resolveSeccomp(given, legacy, false)).toEqual(expected)
    expect(resolveSeccomp(given, legacy, true)).toEqual({ kind: 'unconfined' })
  })

  it.each([
    [null, 'default', 'seccomp_profile_path'],
    [null, 'localhost/p.json', 'seccomp_profile_path'],
    [null, 'localhost//a/../../etc/shadow', 'seccomp_profile_path'],
    [profile('Localhost'), '', 'seccomp.localhost_ref'],
    [profile('Localhost', 'p.json'), '', 'seccomp.localhost_ref'],
    [profile('Localhost', '/a\u0000b'), '', 'seccomp.localhost_ref'],
  ])('refuses %j, %j', (given, legacy, field) => {
    for (const privileged of [false, true]) {
      expect(() => resolveSeccomp(given, legacy, privileged)).toThrow(
        coded('InvalidArgument', `config.linux.security_context.${field}`),
      )
    }
  })
})
