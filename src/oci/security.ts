import { CodedError, invalidField } from '../core/errors.ts'
import type { SELinuxOption__Output } from '../generated/runtime/v1/SELinuxOption.ts'
import type { SecurityProfile__Output } from '../generated/runtime/v1/SecurityProfile.ts'
import { localhostRef } from './security-profile.ts'

/** What the kernel of the node has; read once by the host room and handed over. */
export interface HostSecurity {
  readonly apparmorEnabled: boolean
  readonly selinuxEnabled: boolean
}

export interface SelinuxLabels {
  /** `''`: no label, the process keeps what the runtime gives it. */
  readonly processLabel: string
  readonly mountLabel: string
}

const NO_LABELS: SelinuxLabels = { processLabel: '', mountLabel: '' }
const SELINUX_WORD = /^[A-Za-z0-9_.]{1,255}$/
const SELINUX_LEVEL = /^s\d{1,2}(?:-s\d{1,2})?(?::c\d{1,4}(?:\.c\d{1,4})?(?:,c\d{1,4}(?:\.c\d{1,4})?)*)?$/

/**
 * The AppArmor profile to run under; `''` is none. `defaultProfile` is what RuntimeDefault means on this node, `''` when
 * no profile is loaded for it. A profile that the kernel cannot enforce is an error only when it was named: the runtime's
 * default and Unconfined ask for no more than the node has.
 *
 * @param field the path of the security context in the request, for errors.
 * @throws CodedError `FailedPrecondition` for a Localhost profile on a kernel without AppArmor, `InvalidArgument`.
 */
export function resolveAppArmor(
  profile: SecurityProfile__Output | null,
  host: HostSecurity,
  options: { readonly privileged: boolean; readonly defaultProfile: string; readonly field?: string },
): string {
  if (profile === null) return ''
  const field = `${options.field ?? 'config.linux.security_context'}.apparmor`
  switch (profile.profile_type) {
    case 'RuntimeDefault':
      return host.apparmorEnabled && !options.privileged ? options.defaultProfile : ''
    case 'Unconfined':
      return host.apparmorEnabled ? 'unconfined' : ''
    case 'Localhost':
      return localhostProfile(profile, host, field)
    default:
      throw invalidField(`${field}.profile_type`, `not known: ${String(profile.profile_type)}`)
  }
}

function localhostProfile(profile: SecurityProfile__Output, host: HostSecurity, field: string): string {
  const ref = localhostRef(profile, field)
  const name = ref.startsWith('localhost/') ? ref.slice('localhost/'.length) : ref
  if (!/^[^\p{Cc}\s]{1,1024}$/u.test(name)) {
    throw invalidField(`${field}.localhost_ref`, `not the name of a profile: ${JSON.stringify(name.slice(0, 256))}`)
  }
  if (!host.apparmorEnabled) {
    throw new CodedError('FailedPrecondition', `${field}: profile ${name} was asked for, the kernel has no AppArmor`)
  }
  return name
}

/**
 * The SELinux labels `user:role:type:level` of a pod. Parts that are not given are those that container policies use.
 * A privileged pod gets none, as with other runtimes.
 *
 * @param field the path of the security context in the request, for errors.
 * @throws CodedError `InvalidArgument` for a malformed part, `FailedPrecondition` when a label was asked for and the
 * kernel has no SELinux.
 */
export function resolveSelinux(
  options: SELinuxOption__Output | null,
  privileged: boolean,
  host: HostSecurity,
  securityContextField = 'config.linux.security_context',
): SelinuxLabels {
  if (options === null) return NO_LABELS
  const field = `${securityContextField}.selinux_options`
  const { user, role, type, level } = options
  if ([user, role, type, level].every((part) => part === '')) return NO_LABELS
  for (const [key, part] of Object.entries({ user, role, type })) {
    if (part !== '' && !SELINUX_WORD.test(part)) {
      throw invalidField(`${field}.${key}`, `not a part of a label: ${JSON.stringify(part.slice(0, 256))}`)
    }
  }
  if (level !== '' && !SELINUX_LEVEL.test(level)) {
    throw invalidField(`${field}.level`, `not like s0:c1,c2: ${JSON.stringify(level.slice(0, 256))}`)
  }
  if (!host.selinuxEnabled) {
    throw new CodedError('FailedPrecondition', `${field}: a label was asked for, the kernel has no SELinux`)
  }
  if (privileged) return NO_LABELS
  const levelOrLowest = level || 's0'
  return {
    processLabel: `${user || 'system_u'}:${role || 'system_r'}:${type || 'container_t'}:${levelOrLowest}`,
    mountLabel: `system_u:object_r:container_file_t:${levelOrLowest}`,
  }
}
