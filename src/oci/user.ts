import { invalidField } from '../core/errors.ts'
import type { LinuxSandboxSecurityContext__Output } from '../generated/runtime/v1/LinuxSandboxSecurityContext.ts'
import { userOrGroupId } from './int64.ts'
import type { User } from './spec.ts'

const FIELD = 'config.linux.security_context'

/**
 * The user that a sandbox asks for; root when it asks for none. The primary group is always among the additional ones:
 * a process could otherwise pass a check that denies that group (CVE-2023-25173).
 *
 * @throws CodedError `InvalidArgument` for an id outside 0 to 2^31-1, or a group without a user, which the CRI forbids.
 */
export function sandboxUser(context: LinuxSandboxSecurityContext__Output | null): User {
  const runAsUser = context?.run_as_user ?? null
  const runAsGroup = context?.run_as_group ?? null
  if (runAsGroup !== null && runAsUser === null) {
    throw invalidField(`${FIELD}.run_as_group`, 'needs run_as_user')
  }
  const gid = runAsGroup === null ? 0 : userOrGroupId(`${FIELD}.run_as_group`, runAsGroup.value)
  const supplemental = (context?.supplemental_groups ?? []).map((group, at) =>
    userOrGroupId(`${FIELD}.supplemental_groups[${at}]`, group),
  )
  return {
    uid: runAsUser === null ? 0 : userOrGroupId(`${FIELD}.run_as_user`, runAsUser.value),
    gid,
    additionalGids: [...new Set([gid, ...supplemental])],
  }
}
