import { invalidField } from '../core/errors.ts'
import type { IDMapping__Output } from '../generated/runtime/v1/IDMapping.ts'
import type { NamespaceOption__Output } from '../generated/runtime/v1/NamespaceOption.ts'
import type { IdMapping } from './spec.ts'

/** The kernel's limit of lines in a uid_map (user_namespaces(7)). */
const MAX_MAPPINGS = 340
const FIELD = 'config.linux.security_context.namespace_options.userns_options'

/** Which ids of the node the users and groups of a user namespace are. */
export interface UserMappings {
  readonly uidMappings: readonly IdMapping[]
  readonly gidMappings: readonly IdMapping[]
}

/**
 * The mappings of the user namespace that a pod, or a container, asks for; null for the node's.
 * @throws CodedError `InvalidArgument` for mappings that cannot be.
 */
export function userMappings(options: Pick<NamespaceOption__Output, 'userns_options'> | null): UserMappings | null {
  const userns = options?.userns_options ?? null
  if (userns?.mode !== 'POD') return null
  return {
    uidMappings: idMappings(`${FIELD}.uids`, userns.uids),
    gidMappings: idMappings(`${FIELD}.gids`, userns.gids),
  }
}

/** Whom of the node the root of a user namespace is. @throws CodedError `InvalidArgument` when it is nobody. */
export function mappedRoot({ uidMappings, gidMappings }: UserMappings): { readonly uid: number; readonly gid: number } {
  return { uid: idOfRoot(`${FIELD}.uids`, uidMappings), gid: idOfRoot(`${FIELD}.gids`, gidMappings) }
}

/** @throws CodedError `InvalidArgument` when there are none, more than the kernel takes, or ids beyond 32 bits. */
export function idMappings(field: string, mappings: readonly IDMapping__Output[]): IdMapping[] {
  if (mappings.length === 0 || mappings.length > MAX_MAPPINGS) {
    throw invalidField(field, `must be 1 to ${MAX_MAPPINGS} mappings, not ${mappings.length}`)
  }
  return mappings.map(({ host_id: hostID, container_id: containerID, length: size }, at) => {
    if (size === 0 || hostID + size > 2 ** 32 || containerID + size > 2 ** 32) {
      throw invalidField(`${field}[${at}]`, `${size} ids from ${containerID} and ${hostID} are no range of 32-bit ids`)
    }
    return { containerID, hostID, size }
  })
}

function idOfRoot(field: string, mappings: readonly IdMapping[]): number {
  const first = mappings.find(({ containerID }) => containerID === 0)
  if (first) return first.hostID
  throw invalidField(field, 'id 0 must be mapped')
}
