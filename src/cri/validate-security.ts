import { invalidField } from '../core/errors.ts'
import type { LinuxSandboxSecurityContext__Output } from '../generated/runtime/v1/LinuxSandboxSecurityContext.ts'
import {
  _runtime_v1_SecurityProfile_ProfileType as ProfileType,
  type SecurityProfile__Output,
} from '../generated/runtime/v1/SecurityProfile.ts'
import type { SELinuxOption__Output } from '../generated/runtime/v1/SELinuxOption.ts'
import { SupplementalGroupsPolicy } from '../generated/runtime/v1/SupplementalGroupsPolicy.ts'
import { sandboxUser } from '../oci/user.ts'
import { checkAbsolutePath, checkEnum, checkText, shown } from './checks.ts'

/** Checks the security context of a pod but for its namespace options. */
export function checkSecurityContext(field: string, context: LinuxSandboxSecurityContext__Output): void {
  sandboxUser(context)
  checkConfinement(field, context)
}

/** What the security contexts of pods and containers have in common. */
type Confinement = Pick<
  LinuxSandboxSecurityContext__Output,
  'supplemental_groups_policy' | 'seccomp' | 'apparmor' | 'seccomp_profile_path' | 'selinux_options'
>

/** Checks the profiles and labels of a pod or a container. */
export function checkConfinement(field: string, context: Confinement): void {
  checkEnum(`${field}.supplemental_groups_policy`, context.supplemental_groups_policy, SupplementalGroupsPolicy)
  if (context.seccomp !== null) checkProfile(`${field}.seccomp`, context.seccomp, checkAbsolutePath)
  if (context.apparmor !== null) checkProfile(`${field}.apparmor`, context.apparmor, checkAppArmorName)
  checkText(`${field}.seccomp_profile_path`, context.seccomp_profile_path, 4096)
  if (context.selinux_options !== null) checkSelinux(`${field}.selinux_options`, context.selinux_options)
}

/** A reference that is given without Localhost means nothing and is let pass, as the CRI has no rule against it. */
function checkProfile(
  field: string,
  profile: SecurityProfile__Output,
  checkLocalhost: (field: string, ref: string) => void,
): void {
  checkEnum(`${field}.profile_type`, profile.profile_type, ProfileType)
  checkText(`${field}.localhost_ref`, profile.localhost_ref, 4096)
  if (profile.profile_type === 'Localhost') checkLocalhost(`${field}.localhost_ref`, profile.localhost_ref)
}

function checkAppArmorName(field: string, name: string): void {
  if (name === '') throw invalidField(field, 'must name a loaded profile')
}

/** The parts are joined by colons into a label; only the level may contain one. */
function checkSelinux(field: string, options: SELinuxOption__Output): void {
  for (const part of ['user', 'role', 'type'] as const) checkPart(`${field}.${part}`, options[part], /^[\w.-]*$/)
  checkPart(`${field}.level`, options.level, /^[\w.:,-]*$/)
}

function checkPart(field: string, value: string, pattern: RegExp): void {
  checkText(field, value, 255)
  if (!pattern.test(value)) throw invalidField(field, `not a part of an SELinux label: ${shown(value)}`)
}
