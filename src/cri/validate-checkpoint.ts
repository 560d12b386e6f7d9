import type { CheckpointPod, RestorePod } from '../container/types.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import type { CheckpointPodRequest__Output } from '../generated/runtime/v1/CheckpointPodRequest.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import type { RestorePodRequest__Output } from '../generated/runtime/v1/RestorePodRequest.ts'
import { checkAbsolutePath, shown, validateId } from './checks.ts'
import type { NodeStatus } from './node-status.ts'
import { validateCreateContainer } from './validate-container.ts'
import { validateRunPodSandbox } from './validate.ts'

const MAX_CONTAINERS = 1000

/** @throws CodedError `InvalidArgument` naming the field. */
export function validateCheckpointPod(request: CheckpointPodRequest__Output): CheckpointPod {
  const { container_ids: ids, output_path: outputPath } = request
  checkOptions(request.options)
  const sandboxId = validateId('pod_sandbox_id', request.pod_sandbox_id)
  checkAbsolutePath('output_path', outputPath)
  checkCount('container_ids', ids)
  const containerIds = ids.map((id, at) => validateId(`container_ids[${at}]`, id))
  for (const [at, id] of containerIds.entries()) {
    if (containerIds.indexOf(id) !== at) throw invalidField(`container_ids[${at}]`, `${shown(id)} is there twice`)
  }
  return { sandboxId, outputPath, containerIds }
}

/** @throws CodedError `InvalidArgument` naming the field, and as {@link validateRunPodSandbox}. */
export function validateRestorePod(
  request: RestorePodRequest__Output,
  node: Pick<NodeStatus, 'cgroupDriver' | 'runtimeHandlers'>,
): RestorePod {
  const { checkpoint_path: checkpointPath, container_configs: containers } = request
  checkOptions(request.options)
  checkAbsolutePath('checkpoint_path', checkpointPath)
  const { config, runtimeHandler } = validateRunPodSandbox(request, node)
  checkCount('container_configs', containers)
  for (const [at, container] of containers.entries()) checkContainer(`container_configs[${at}]`, container)
  return { checkpointPath, config, runtimeHandler, containers }
}

/** There are none, and the CRI has unknown ones refused. */
function checkOptions(options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options))
    throw invalidField(`options.${key.slice(0, 80)}`, 'is no option of this runtime')
}

function checkCount(field: string, list: readonly unknown[]): void {
  if (list.length === 0) throw invalidField(field, 'must not be empty')
  if (list.length > MAX_CONTAINERS) throw invalidField(field, `has more than ${MAX_CONTAINERS} entries`)
}

/** As for CreateContainer, where the configuration is in the field `config`. */
function checkContainer(field: string, config: ContainerConfig__Output): void {
  try {
    validateCreateContainer({ pod_sandbox_id: 'restored', config, sandbox_config: null })
  } catch (error) {
    if (!(error instanceof CodedError)) throw error
    throw new CodedError(
      error.code,
      error.message.replace(/^config/, () => field),
      { cause: error.cause },
    )
  }
}
