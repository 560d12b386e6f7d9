import type { Config } from '../../config/config.ts'
import { CheckpointStages } from '../../container/checkpoint/stages.ts'
import type { ContainerManager } from '../../container/container-manager.ts'
import type { ExecutedContainers } from '../../container/kinds/executed.ts'
import { CheckpointedPods } from '../../container/checkpoint/pod-checkpoints.ts'
import type { PodCheckpoints } from '../../container/types.ts'
import { CodedError } from '../../core/errors.ts'
import type { Sealer } from '../../core/seal.ts'
import type { ProcessCheckpoints } from '../../executor/process-checkpoints.ts'
import type { Programs } from '../../host/programs/programs.ts'
import type { ImageRootfs } from '../../image/types.ts'
import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'
import type { Logger } from '../../telemetry/logger.ts'

export interface CheckpointParts {
  readonly processes: ProcessCheckpoints
  readonly programs: Programs
  readonly logger: Logger
}

/** Where checkpoints are made and taken apart; what an earlier daemon has left there is undone. */
export async function openCheckpointStages(
  config: Config,
  given: CheckpointParts & { readonly executed: ExecutedContainers },
): Promise<CheckpointStages> {
  const stages = new CheckpointStages(config, { ...given, run: given.programs.run })
  await stages.sweep()
  return stages
}

/** The checkpoints of pods; null where the configuration does not allow any. */
export function buildPodCheckpoints(
  config: Config,
  given: CheckpointParts & {
    readonly stages: CheckpointStages
    readonly sealer: Sealer
    readonly images: ImageRootfs
    readonly sandboxes: SandboxManager
    readonly containers: ContainerManager
  },
): PodCheckpoints | null {
  const { enabled, timeoutMs: checkpointMs, maxBytes } = config.checkpoint
  if (!enabled) return null
  const { sandboxes } = given
  return new CheckpointedPods(
    { checkpointMs, maxBytes, removeMs: config.timeouts.releaseMs },
    {
      ...given,
      run: given.programs.run,
      sandboxes: {
        run: async (request, signal) => sandboxes.run(request, signal),
        remove: async (id, signal) => sandboxes.remove(id, signal),
        ids: () => sandboxes.list({}).map(({ metadata }) => metadata.id),
      },
      runtimePath: (name) => runtimePath(config, name),
    },
  )
}

function runtimePath({ runtimes, defaultRuntimeHandler }: Config, name: string): string {
  const handler = runtimes[name || defaultRuntimeHandler]
  if (!handler) {
    throw new CodedError('NotFound', `runtime_handler: ${name} is not one of ${Object.keys(runtimes).join(', ')}`)
  }
  if (handler.runtime !== '') return handler.runtime
  const why = 'has no OCI runtime: its containers cannot be restored'
  throw new CodedError('FailedPrecondition', `runtime_handler: ${name} ${why}`)
}
