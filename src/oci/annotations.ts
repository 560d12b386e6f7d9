import { invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'

export interface SandboxAnnotationsInput {
  readonly config: PodSandboxConfig__Output
  readonly id: string
  readonly runtimeHandler: string
  readonly sandboxer: string
}

/**
 * The annotations of the pod's first container: the `io.kubernetes.cri` ones that VM runtimes and monitors read, and our
 * own. The pod's annotations are not among them: runtimes take orders from annotations (`run.oci.*`,
 * `org.systemd.property.*`), and whoever writes a pod must not give orders to the node (CVE-2024-3154).
 * The sizes are those of `resources`, the sum of the containers, as containerd writes them; overhead is apart in the CRI.
 *
 * @throws CodedError `InvalidArgument` when the metadata is missing.
 */
export function sandboxAnnotations(input: SandboxAnnotationsInput): Readonly<Record<string, string>> {
  const { metadata, linux, log_directory: logDirectory } = input.config
  if (metadata === null) throw invalidField('config.metadata', 'is missing')
  const resources = linux?.resources ?? null
  return {
    'io.kubernetes.cri.container-type': 'sandbox',
    'io.kubernetes.cri.sandbox-id': input.id,
    'io.kubernetes.cri.sandbox-name': metadata.name,
    'io.kubernetes.cri.sandbox-namespace': metadata.namespace,
    'io.kubernetes.cri.sandbox-uid': metadata.uid,
    'io.kubernetes.cri.sandbox-attempt': String(metadata.attempt),
    'io.kubernetes.cri.sandbox-log-directory': logDirectory,
    ...(resources === null
      ? {}
      : {
          'io.kubernetes.cri.sandbox-cpu-period': resources.cpu_period,
          'io.kubernetes.cri.sandbox-cpu-quota': resources.cpu_quota,
          'io.kubernetes.cri.sandbox-cpu-shares': resources.cpu_shares,
          'io.kubernetes.cri.sandbox-memory': resources.memory_limit_in_bytes,
        }),
    'io.sandboxerd.runtime-handler': input.runtimeHandler,
    'io.sandboxerd.sandboxer': input.sandboxer,
  }
}
