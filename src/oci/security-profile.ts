import { invalidField } from '../core/errors.ts'
import type { SecurityProfile__Output } from '../generated/runtime/v1/SecurityProfile.ts'

/**
 * The `localhost_ref` of a profile of type Localhost.
 *
 * @throws CodedError `InvalidArgument` naming `<field>.localhost_ref` when it is empty.
 */
export function localhostRef(profile: SecurityProfile__Output, field: string): string {
  if (profile.localhost_ref === '') throw invalidField(`${field}.localhost_ref`, 'is needed for a Localhost profile')
  return profile.localhost_ref
}
