import type { CheckpointPod, PodCheckpoints, RestoredPod, RestorePod } from '../../src/container/types.ts'

/** Takes note of what it is asked for, and says that it was done. */
export class FakePodCheckpoints implements PodCheckpoints {
  readonly checkpointed: CheckpointPod[] = []
  readonly restored: RestorePod[] = []

  async checkpoint(request: CheckpointPod): Promise<void> {
    this.checkpointed.push(request)
  }

  async restore(request: RestorePod): Promise<RestoredPod> {
    this.restored.push(request)
    const containers = request.containers.map(({ metadata }, at) => ({ name: metadata?.name ?? '', id: `id-${at}` }))
    return { sandboxId: 'sandbox-1', containers }
  }
}
