import { CAPABILITIES } from '../core/capabilities.ts'
import { invalidField } from '../core/errors.ts'
import type { Capability__Output } from '../generated/runtime/v1/Capability.ts'
import type { LinuxContainerSecurityContext__Output } from '../generated/runtime/v1/LinuxContainerSecurityContext.ts'
import type { NamespaceOption__Output } from '../generated/runtime/v1/NamespaceOption.ts'
import { userOrGroupId } from '../oci/int64.ts'
import { checkAbsolutePath, checkText, checkWord, shown, validateId } from './checks.ts'
import { checkNamespaceOptions } from './validate-linux.ts'
import { checkConfinement } from './validate-security.ts'

/** The longest name that useradd(8) makes is 32, but images come from elsewhere. */
const MAX_USER_NAME_BYTES = 256

/**
 * Checks the security context of a container. Privileged is let pass with everything else: by the CRI, what it overrides
 * has no effect then.
 */
export function checkContainerSecurity(field: string, context: LinuxContainerSecurityContext__Output): void {
  checkUser(field, context)
  if (context.capabilities !== null) checkCapabilities(`${field}.capabilities`, context.capabilities)
  if (context.namespace_options !== null) checkNamespaces(`${field}.namespace_options`, context.namespace_options)
  checkConfinement(field, context)
  checkText(`${field}.apparmor_profile`, context.apparmor_profile, 4096)
  for (const key of ['masked_paths', 'readonly_paths'] as const) {
    for (const [at, path] of context[key].entries()) checkAbsolutePath(`${field}.${key}[${at}]`, path)
  }
}

/** Ids are 0 to 2^31-1: one more wraps around to root in some runtimes (CVE-2024-40635). */
function checkUser(field: string, context: LinuxContainerSecurityContext__Output): void {
  const { run_as_user: user, run_as_username: username, run_as_group: group } = context
  if (user !== null) userOrGroupId(`${field}.run_as_user.value`, user.value)
  if (group !== null) userOrGroupId(`${field}.run_as_group.value`, group.value)
  if (username !== '') checkUserName(`${field}.run_as_username`, username)
  if (user !== null && username !== '') throw invalidField(`${field}.run_as_username`, 'excludes run_as_user')
  if (group !== null && user === null && username === '') {
    throw invalidField(`${field}.run_as_group`, 'needs run_as_user or run_as_username')
  }
  for (const [at, id] of context.supplemental_groups.entries()) {
    userOrGroupId(`${field}.supplemental_groups[${at}]`, id)
  }
}

/** A field of passwd, where a colon ends it. */
function checkUserName(field: string, name: string): void {
  checkWord(field, name, MAX_USER_NAME_BYTES)
  if (name.includes(':')) throw invalidField(field, `not a name: ${shown(name)}`)
}

/** With and without `CAP_`, in any case. A name that is not known would take nothing away. */
function checkCapabilities(field: string, capabilities: Capability__Output): void {
  for (const key of ['add_capabilities', 'drop_capabilities', 'add_ambient_capabilities'] as const) {
    for (const [at, given] of capabilities[key].entries()) {
      const name = given.toUpperCase()
      const isKnown = name === 'ALL' ? key !== 'add_ambient_capabilities' : CAPABILITIES.includes(withPrefix(name))
      if (!isKnown) throw invalidField(`${field}.${key}[${at}]`, `not a capability: ${shown(given)}`)
    }
  }
}

function withPrefix(name: string): string {
  return name.startsWith('CAP_') ? name : `CAP_${name}`
}

/** TARGET is the pid namespace of another container of the pod; that it is one, the container finds out. */
function checkNamespaces(field: string, options: NamespaceOption__Output): void {
  checkNamespaceOptions(field, options, ['POD', 'CONTAINER', 'NODE', 'TARGET'])
  if (options.pid === 'TARGET') validateId(`${field}.target_id`, options.target_id)
  else checkText(`${field}.target_id`, options.target_id, 256)
}
