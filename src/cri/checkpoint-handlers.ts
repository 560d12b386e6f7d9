import type { Containers, PodCheckpoints } from '../container/types.ts'
import { CodedError } from '../core/errors.ts'
import type { RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { type HandlerDeps, unary } from '../grpc/handler.ts'
import { validateId } from './checks.ts'
import type { NodeStatus } from './node-status.ts'
import { validateCheckpoint } from './validate-calls.ts'
import { validateCheckpointPod, validateRestorePod } from './validate-checkpoint.ts'

export interface CheckpointHandlerDeps extends HandlerDeps {
  readonly containers: Pick<Containers, 'checkpoint'>
  /** Null where the configuration does not allow any checkpoint. */
  readonly podCheckpoints: PodCheckpoints | null
  readonly node: Pick<NodeStatus, 'cgroupDriver' | 'runtimeHandlers'>
}

/** Checkpoints of containers and pods, behind a switch of the configuration. */
export function checkpointHandlers(deps: CheckpointHandlerDeps) {
  const { containers, node } = deps
  return {
    CheckpointContainer: unary(async (request, { signal }) => {
      switchedOn(deps, 'CheckpointContainer')
      const id = validateId('container_id', request.container_id)
      await containers.checkpoint(id, validateCheckpoint(request), signal)
      return {}
    }, deps),
    CheckpointPod: unary(async (request, { signal }) => {
      const checkpoints = switchedOn(deps, 'CheckpointPod')
      await checkpoints.checkpoint(validateCheckpointPod(request), signal)
      return {}
    }, deps),
    RestorePod: unary(async (request, { signal }) => {
      const checkpoints = switchedOn(deps, 'RestorePod')
      const restored = await checkpoints.restore(validateRestorePod(request, node), signal)
      return {
        pod_sandbox_id: restored.sandboxId,
        restored_containers: restored.containers.map(({ name, id }) => ({ name, container_id: id })),
      }
    }, deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

function switchedOn({ podCheckpoints }: CheckpointHandlerDeps, method: string): PodCheckpoints {
  if (podCheckpoints) return podCheckpoints
  throw new CodedError('FailedPrecondition', `${method}: checkpoint.enabled is false in the configuration of this node`)
}
