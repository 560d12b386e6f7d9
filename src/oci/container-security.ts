import { invalidField } from '../core/errors.ts'
import type { LinuxContainerSecurityContext__Output } from '../generated/runtime/v1/LinuxContainerSecurityContext.ts'
import type { SecurityProfile__Output } from '../generated/runtime/v1/SecurityProfile.ts'
import { type HostSecurity, resolveAppArmor } from './security.ts'

/**
 * The AppArmor profile of a container; `''` is none. The old field `apparmor_profile` counts only without the new one,
 * and neither means the runtime's default.
 *
 * @throws CodedError as {@link resolveAppArmor}.
 */
export function containerAppArmor(
  context: LinuxContainerSecurityContext__Output | null,
  host: HostSecurity,
  defaultProfile: string,
): string {
  const profile = context?.apparmor ?? legacyProfile(context?.apparmor_profile ?? '')
  return resolveAppArmor(profile, host, { privileged: context?.privileged ?? false, defaultProfile })
}

function legacyProfile(name: string): SecurityProfile__Output {
  if (name === '' || name === 'runtime/default') return { profile_type: 'RuntimeDefault', localhost_ref: '' }
  if (name === 'unconfined') return { profile_type: 'Unconfined', localhost_ref: '' }
  if (name.startsWith('localhost/')) return { profile_type: 'Localhost', localhost_ref: name }
  const field = 'config.linux.security_context.apparmor_profile'
  throw invalidField(field, `not a known AppArmor profile: ${JSON.stringify(name.slice(0, 256))}`)
}
