import { invalidField } from '../core/errors.ts'
import type { ControllerCreateRequest } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { Any, Any__Output } from '../generated/google/protobuf/Any.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { NamedSandbox } from './sandboxer-client.ts'
import { toTimestamp } from './timestamp.ts'
import type { CreateRequest, EncodedMessage, SandboxDetails } from './types.ts'

/** How containerd names the configuration of a pod in an Any: without the usual prefix. */
const CONFIG_TYPE = 'runtime.v1.PodSandboxConfig'
const DEFAULT_RUNTIME = 'io.containerd.runc.v2'

/** A Create in the form in which containerd 2.x sends it. */
export function createRequest(
  request: CreateRequest,
  sandboxer: string,
  encodeConfig: (config: PodSandboxConfig) => Buffer,
  nowNs: bigint,
): Omit<ControllerCreateRequest, 'sandboxer'> & { sandbox_id: string } {
  const { id, config, netnsPath, annotations } = request
  if (typeof config !== 'object') throw invalidField('config', 'not the configuration of a pod')
  return {
    sandbox_id: checkedId(id),
    options: { type_url: CONFIG_TYPE, value: encodeConfig(config) },
    netns_path: netnsPath ?? '',
    annotations: annotations ?? config.annotations ?? {},
    sandbox: { ...namedSandbox(id, { labels: { name: nameOf(config) }, ...request }, nowNs), sandboxer },
  }
}

/** The record of a sandbox, never without a runtime: servers written in Go take it for given. */
export function namedSandbox(id: string, details: SandboxDetails, nowNs: bigint): NamedSandbox {
  const { runtime = {}, labels = {}, extensions = {} } = details
  const now = toTimestamp(nowNs)
  return {
    sandbox_id: checkedId(id),
    runtime: { name: runtime.name ?? DEFAULT_RUNTIME, options: runtime.options ? toAny(runtime.options) : null },
    labels,
    created_at: now,
    updated_at: now,
    extensions: Object.fromEntries(Object.entries(extensions).map(([key, message]) => [key, toAny(message)])),
  }
}

/** An empty id would be routed, not refused, by some. */
export function checkedId(id: string): string {
  if (typeof id !== 'string' || id === '') throw invalidField('id', 'no sandbox is named')
  return id
}

/** As containerd names a pod. */
function nameOf({ metadata }: PodSandboxConfig): string {
  const { name = '', namespace = '', uid = '', attempt = 0 } = metadata ?? {}
  return [name, namespace, uid, attempt].join('_')
}

function toAny({ typeUrl, value }: EncodedMessage): Any {
  return { type_url: typeUrl, value: Buffer.from(value) }
}

/** Null for none, and for an empty one. */
export function fromAny(any: Any__Output | null): EncodedMessage | null {
  return any === null || any.type_url === '' ? null : { typeUrl: any.type_url, value: any.value }
}
