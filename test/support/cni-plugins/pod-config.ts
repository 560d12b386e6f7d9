import type { PodSandboxConfig__Output } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'

/** The configuration of a pod as the CRI server receives it, with what the test cares for. */
export function podConfig(part: Partial<PodSandboxConfig__Output> = {}): PodSandboxConfig__Output {
  return {
    metadata: { name: 'web', namespace: 'default', uid: 'uid-1', attempt: 0 },
    hostname: '',
    log_directory: '',
    dns_config: null,
    port_mappings: [],
    labels: {},
    annotations: {},
    linux: null,
    windows: null,
    ...part,
  }
}
