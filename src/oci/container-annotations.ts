import { invalidField } from '../core/errors.ts'
import type { ContainerSpecInput } from './container-input.ts'

/**
 * The annotations of a container: the `io.kubernetes.cri` ones that VM runtimes and monitors read, and our own. Neither
 * those of the container nor those of its pod or its image are among them, see {@link sandboxAnnotations}.
 *
 * @throws CodedError `InvalidArgument` when metadata is missing.
 */
export function containerAnnotations(input: ContainerSpecInput): Readonly<Record<string, string>> {
  const pod = input.podConfig.metadata
  const { metadata } = input.config
  if (pod === null) throw invalidField('sandbox_config.metadata', 'is missing')
  if (metadata === null) throw invalidField('config.metadata', 'is missing')
  return {
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.container-name': metadata.name,
    'io.kubernetes.cri.image-name': input.image.name,
    'io.kubernetes.cri.sandbox-id': input.sandboxId,
    'io.kubernetes.cri.sandbox-name': pod.name,
    'io.kubernetes.cri.sandbox-namespace': pod.namespace,
    'io.kubernetes.cri.sandbox-uid': pod.uid,
    'io.sandboxerd.runtime-handler': input.runtimeHandler,
  }
}
