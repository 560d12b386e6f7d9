import type { ContainerResources } from '../container/types.ts'
import { invalidField } from '../core/errors.ts'
import type { CheckpointContainerRequest__Output } from '../generated/runtime/v1/CheckpointContainerRequest.ts'
import type { ExecSyncRequest__Output } from '../generated/runtime/v1/ExecSyncRequest.ts'
import type { PodSandboxMetadata__Output } from '../generated/runtime/v1/PodSandboxMetadata.ts'
import type { UpdateContainerResourcesRequest__Output } from '../generated/runtime/v1/UpdateContainerResourcesRequest.ts'
import { int64 } from '../oci/int64.ts'
import { checkAbsolutePath, checkStrings } from './checks.ts'
import { checkResources } from './validate-linux.ts'

/** The longest that a timer waits: 24 days. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/**
 * The milliseconds of a timeout that the CRI gives in seconds, at most 24 days.
 * @throws CodedError `InvalidArgument` when it is negative.
 */
export function validateTimeoutMs(field: string, seconds: string): number {
  const ms = int64(field, seconds, 0n) * 1000n
  return ms > MAX_TIMEOUT_MS ? MAX_TIMEOUT_MS : Number(ms)
}

/** @throws CodedError `InvalidArgument` naming the field. */
export function validateExecSync(request: ExecSyncRequest__Output): { command: readonly string[]; timeoutMs: number } {
  const { cmd: command, timeout } = request
  if (command.length === 0 || command[0] === '') throw invalidField('cmd', 'must name a program')
  checkStrings('cmd', command)
  return { command, timeoutMs: validateTimeoutMs('timeout', timeout) }
}

/** @throws CodedError `InvalidArgument` naming the field. */
export function validateCheckpoint(request: CheckpointContainerRequest__Output): {
  location: string
  timeoutMs: number
} {
  checkAbsolutePath('location', request.location)
  return { location: request.location, timeoutMs: validateTimeoutMs('timeout', request.timeout) }
}

/** The limits to set; annotations concern nobody here. @throws CodedError `InvalidArgument` naming the field. */
export function validateUpdate(request: UpdateContainerResourcesRequest__Output): ContainerResources {
  if (request.windows !== null) throw invalidField('windows', 'this node runs Linux containers only')
  if (request.linux === null) throw invalidField('linux', 'is missing')
  checkResources('linux', request.linux)
  return request.linux
}

/**
 * The configuration of the pod that comes along with a container's is not used, the stored one is; but one of another
 * pod is a caller's mistake.
 * @throws CodedError `InvalidArgument` naming the field.
 */
export function checkSamePod(
  given: PodSandboxMetadata__Output | null,
  stored: PodSandboxMetadata__Output | null,
): void {
  if (given === null) return
  for (const key of ['name', 'namespace', 'uid'] as const) {
    if (given[key] !== stored?.[key]) {
      throw invalidField(`sandbox_config.metadata.${key}`, 'is not that of the pod sandbox')
    }
  }
}
