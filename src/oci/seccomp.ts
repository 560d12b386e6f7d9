import { constants } from 'node:os'
import { CodedError, invalidField } from '../core/errors.ts'
import type { SecurityProfile__Output } from '../generated/runtime/v1/SecurityProfile.ts'
import type { SeccompCondition, SeccompProfile, SeccompRule } from './seccomp-profile.ts'
import type { LinuxSeccomp, SeccompAction, SeccompSyscall } from './spec.ts'
import { localhostRef } from './security-profile.ts'

/** What a filter depends on besides its profile. */
export interface SeccompTarget {
  /** The bounding set of the process: a system call is allowed where the capability that guards it is. */
  readonly capabilities: readonly string[]
  /** `process.arch` of the node. */
  readonly arch: string
  /** As `uname -r` shows it. */
  readonly kernelVersion: string
}

export type SeccompChoice =
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'default' }
  | { readonly kind: 'localhost'; readonly ref: string }

/** Node's name of an architecture, Go's (used in profiles) and libseccomp's. */
const ARCHITECTURES: Readonly<Record<string, { readonly go: string; readonly native: string }>> = {
  x64: { go: 'amd64', native: 'SCMP_ARCH_X86_64' },
  ia32: { go: '386', native: 'SCMP_ARCH_X86' },
  arm64: { go: 'arm64', native: 'SCMP_ARCH_AARCH64' },
  arm: { go: 'arm', native: 'SCMP_ARCH_ARM' },
  ppc64: { go: 'ppc64le', native: 'SCMP_ARCH_PPC64LE' },
  s390x: { go: 's390x', native: 'SCMP_ARCH_S390X' },
  riscv64: { go: 'riscv64', native: 'SCMP_ARCH_RISCV64' },
}

/**
 * Which profile a sandbox or container asks for. `legacyPath` (`seccomp_profile_path`) counts only without `profile`;
 * none at all is unconfined, as in the CRI, and so is everything privileged.
 *
 * @param field the path of the security context in the request, for errors.
 * @throws CodedError `InvalidArgument` for a form that is not known.
 */
export function resolveSeccomp(
  profile: SecurityProfile__Output | null,
  legacyPath: string,
  privileged: boolean,
  field = 'config.linux.security_context',
): SeccompChoice {
  const choice =
    profile === null
      ? legacyChoice(legacyPath, `${field}.seccomp_profile_path`)
      : profileChoice(profile, `${field}.seccomp`)
  return privileged ? { kind: 'unconfined' } : choice
}

function profileChoice(profile: SecurityProfile__Output, field: string): SeccompChoice {
  switch (profile.profile_type) {
    case 'RuntimeDefault':
      return { kind: 'default' }
    case 'Unconfined':
      return { kind: 'unconfined' }
    case 'Localhost':
      return { kind: 'localhost', ref: profilePath(localhostRef(profile, field), `${field}.localhost_ref`) }
    default:
      throw invalidField(`${field}.profile_type`, `not known: ${String(profile.profile_type)}`)
  }
}

function legacyChoice(path: string, field: string): SeccompChoice {
  if (path === '' || path === 'unconfined') return { kind: 'unconfined' }
  if (path === 'runtime/default' || path === 'docker/default') return { kind: 'default' }
  if (path.startsWith('localhost/')) return { kind: 'localhost', ref: profilePath(path, field) }
  throw invalidField(field, `not a known seccomp profile: ${JSON.stringify(path.slice(0, 256))}`)
}

/** The CRI wants a full path; `localhost/` before it is what old clients write. */
function profilePath(ref: string, field: string): string {
  const path = ref.startsWith('localhost/') ? ref.slice('localhost/'.length) : ref
  if (!/^\/[^\p{Cc}]{1,4095}$/u.test(path) || path.split('/').includes('..')) {
    throw invalidField(field, `must be an absolute path without "..": ${JSON.stringify(path.slice(0, 256))}`)
  }
  return path
}

/**
 * The filter that a profile gives for a process on this node: rules whose conditions hold, without the conditions.
 *
 * @throws CodedError `FailedPrecondition` for an architecture without seccomp names.
 */
export function seccompFilter(profile: SeccompProfile, target: SeccompTarget): LinuxSeccomp {
  const architecture = ARCHITECTURES[target.arch]
  if (architecture === undefined) {
    throw new CodedError('FailedPrecondition', `build a seccomp filter: architecture ${target.arch} is not known`)
  }
  const syscalls = (profile.syscalls ?? []).filter(
    (rule) => includes(rule.includes, architecture.go, target) && !excludes(rule.excludes, architecture.go, target),
  )
  return {
    defaultAction: profile.defaultAction,
    ...errnoOf(profile.defaultAction, profile.defaultErrnoRet, profile.defaultErrno, 'defaultErrnoRet'),
    architectures: filterArchitectures(profile, architecture.native),
    ...(profile.flags?.length ? { flags: profile.flags } : {}),
    ...(profile.listenerPath === undefined ? {} : { listenerPath: profile.listenerPath }),
    ...(profile.listenerMetadata === undefined ? {} : { listenerMetadata: profile.listenerMetadata }),
    syscalls: syscalls.map(syscallRule),
  }
}

function filterArchitectures(profile: SeccompProfile, native: string): string[] {
  if (profile.architectures?.length) return profile.architectures
  const entry = profile.archMap?.find((candidate) => candidate.architecture === native)
  return [native, ...(entry?.subArchitectures ?? [])]
}

function includes(condition: SeccompCondition, goArch: string, target: SeccompTarget): boolean {
  if (condition?.arches?.length && !condition.arches.includes(goArch)) return false
  if (condition?.minKernel !== undefined && !isAtLeast(target.kernelVersion, condition.minKernel)) return false
  return (condition?.caps ?? []).every((name) => target.capabilities.includes(name))
}

function excludes(condition: SeccompCondition, goArch: string, target: SeccompTarget): boolean {
  if (condition?.arches?.includes(goArch)) return true
  if (condition?.minKernel !== undefined && isAtLeast(target.kernelVersion, condition.minKernel)) return true
  return (condition?.caps ?? []).some((name) => target.capabilities.includes(name))
}

function isAtLeast(kernelVersion: string, minimum: string): boolean {
  const [major = 0, minor = 0] = kernelVersion.split(/[^0-9]/, 2).map(Number)
  const [minMajor = 0, minMinor = 0] = minimum.split('.').map(Number)
  return major > minMajor || (major === minMajor && minor >= minMinor)
}

function syscallRule(rule: SeccompRule): SeccompSyscall {
  const args = (rule.args ?? []).map(({ index, value, valueTwo, op }) => ({
    index,
    value,
    ...(valueTwo === undefined ? {} : { valueTwo }),
    op,
  }))
  return {
    names: rule.names?.length ? rule.names : [rule.name ?? ''],
    action: rule.action,
    ...errnoOf(rule.action, rule.errnoRet, rule.errno, 'errnoRet'),
    ...(args.length > 0 ? { args } : {}),
  }
}

/** Only these two actions return a number; runtimes refuse it with any other. */
function errnoOf<K extends string>(
  action: SeccompAction,
  number: number | undefined,
  name: string | undefined,
  key: K,
): Partial<Record<K, number>> {
  if (action !== 'SCMP_ACT_ERRNO' && action !== 'SCMP_ACT_TRACE') return {}
  const value = number ?? (name === undefined ? undefined : new Map(Object.entries(constants.errno)).get(name))
  const result: Partial<Record<K, number>> = {}
  if (value !== undefined) result[key] = value
  return result
}
