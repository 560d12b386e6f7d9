import { invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { PodSandboxMetadata__Output } from '../generated/runtime/v1/PodSandboxMetadata.ts'
import type { RunPodSandboxRequest__Output } from '../generated/runtime/v1/RunPodSandboxRequest.ts'
import { checkAbsolutePath, checkMap, checkNamePart, checkPathSafe, checkUint32 } from './checks.ts'
import type { NodeStatus } from './node-status.ts'
import { type CgroupDriver, checkLinux } from './validate-linux.ts'
import { checkDnsConfig, checkHostname, checkPortMappings } from './validate-network.ts'

/** What RunPodSandbox works with. */
export interface RunPodSandbox {
  readonly config: PodSandboxConfig__Output
  readonly runtimeHandler: string
}

/**
 * Checks every field of a RunPodSandboxRequest, so that a bad one is refused before anything was touched. What the
 * machine would have to be asked for (does the seccomp profile exist, is AppArmor there) is left to the sandbox.
 *
 * @throws CodedError `InvalidArgument` that begins with the path of the field (`config.metadata.name: …`), or
 * `FailedPrecondition` for a user namespace where the runtime handler has none.
 */
export function validateRunPodSandbox(
  request: RunPodSandboxRequest__Output,
  node: Pick<NodeStatus, 'cgroupDriver' | 'runtimeHandlers'>,
): RunPodSandbox {
  const { config, runtime_handler: runtimeHandler } = request
  if (config === null) throw invalidField('config', 'is missing')
  const handler = node.runtimeHandlers().find(({ name }) => name === runtimeHandler)
  const hasUserNamespaces = handler?.hasUserNamespaces ?? false
  validatePodSandboxConfig(config, { cgroupDriver: node.cgroupDriver, hasUserNamespaces })
  if (runtimeHandler !== '') checkPathSafe('runtime_handler', runtimeHandler, 253)
  return { config, runtimeHandler }
}

/** The same for the configuration of a pod alone, whoever gives it. @throws CodedError as {@link validateRunPodSandbox}. */
export function validatePodSandboxConfig(
  config: PodSandboxConfig__Output,
  node: { readonly cgroupDriver: CgroupDriver; readonly hasUserNamespaces: boolean },
): void {
  checkMetadata('config.metadata', config.metadata)
  checkHostname('config.hostname', config.hostname)
  if (config.log_directory !== '') checkAbsolutePath('config.log_directory', config.log_directory)
  if (config.dns_config !== null) checkDnsConfig('config.dns_config', config.dns_config)
  checkPortMappings('config.port_mappings', config.port_mappings)
  checkMap('config.labels', config.labels)
  checkMap('config.annotations', config.annotations)
  if (config.linux !== null) checkLinux(config.linux, node)
  if (config.windows !== null) throw invalidField('config.windows', 'this node runs Linux pods only')
}

function checkMetadata(field: string, metadata: PodSandboxMetadata__Output | null): void {
  if (metadata === null) throw invalidField(field, 'is missing')
  checkNamePart(`${field}.name`, metadata.name, 253)
  checkNamePart(`${field}.namespace`, metadata.namespace, 63)
  checkPathSafe(`${field}.uid`, metadata.uid, 128)
  checkUint32(`${field}.attempt`, metadata.attempt)
}
