import type { NamedSandbox } from '../client/sandboxer-client.ts'
import { toTimestamp } from '../client/timestamp.ts'
import { nowNs } from '../core/now.ts'
import type { AnnouncedTask } from '../executor/task/types.ts'
import type { ControllerCreateRequest } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import { ociJson } from '../oci/json.ts'
import type { SandboxSpec } from './controller.ts'
import { criMetadata, METADATA_TYPE } from './cri-metadata.ts'
import type { SandboxerRecord } from './sandboxer-record.ts'

/** How containerd names the configuration of a pod in an Any: without the usual prefix. */
const CONFIG_TYPE = 'runtime.v1.PodSandboxConfig'
const TASKS_TYPE = 'github.com/containerd/containerd/Tasks'

/** The field of an Update that announces tasks. */
export const TASKS_FIELD = 'extensions.tasks'

/** The forms in which the configuration of a pod goes over the wire. */
export interface ConfigCodec {
  /** Protobuf. */
  readonly encode: (config: PodSandboxConfig) => Buffer
  /** As Go's encoding/json writes it. */
  readonly toJson: (config: PodSandboxConfig) => object
}

/** What a remote sandboxer is told to make, in the form in which containerd 2.x tells it. */
export function createRequest(
  record: SandboxerRecord,
  spec: SandboxSpec,
  codec: ConfigCodec,
): ControllerCreateRequest & { sandbox_id: string } {
  const metadata = criMetadata(spec, record.podName, codec.toJson(spec.config))
  return {
    sandbox_id: spec.id,
    options: { type_url: CONFIG_TYPE, value: codec.encode(spec.config) },
    netns_path: spec.netnsPath,
    annotations: spec.config.annotations,
    sandbox: {
      ...namedSandbox(record),
      extensions: { metadata: { type_url: METADATA_TYPE, value: metadata } },
      sandboxer: spec.sandboxer,
    },
  }
}

/** The sandbox of an Update that tells of all the tasks that it shall have; see {@link TASKS_FIELD}. */
export function announcement(record: SandboxerRecord, tasks: readonly AnnouncedTask[]): NamedSandbox {
  const value = Buffer.from(ociJson({ tasks }))
  return {
    ...namedSandbox(record),
    updated_at: toTimestamp(nowNs()),
    extensions: { tasks: { type_url: TASKS_TYPE, value } },
  }
}

/** What no server may have to do without. */
function namedSandbox({ id, runtime, podName, createdAtNs }: SandboxerRecord): NamedSandbox {
  const { name, options } = runtime
  const createdAt = toTimestamp(BigInt(createdAtNs))
  return {
    sandbox_id: id,
    runtime: {
      name,
      ...(options ? { options: { type_url: options.typeUrl, value: Buffer.from(options.value, 'base64') } } : {}),
    },
    labels: { name: podName },
    created_at: createdAt,
    updated_at: createdAt,
  }
}
