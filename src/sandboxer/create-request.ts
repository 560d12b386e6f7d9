import { isIP } from 'node:net'
import type { ShimRequest } from '../controller/controller.ts'
import { CodedError, errorMessage, invalidField } from '../core/errors.ts'
import type { ControllerCreateRequest__Output } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { Any__Output } from '../generated/google/protobuf/Any.ts'
import type { PodSandboxConfig, PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { ServedRequest } from '../sandbox/types.ts'

/** `runtime.v1.PodSandboxConfig` on the wire. */
export interface ConfigCodec {
  serialize(config: PodSandboxConfig): Buffer
  deserialize(bytes: Buffer): PodSandboxConfig__Output
}

export interface CreateOptions {
  /** The shim for those who name none; null: their runtime handler is run otherwise. */
  readonly defaultShim: string | null
  /** See {@link ShimRequest.eventsAddress}. */
  readonly eventsAddress: string
}

export interface CreateDeps {
  readonly codec: ConfigCodec
  /** @throws CodedError `InvalidArgument` naming the field, `FailedPrecondition` for what this node cannot do. */
  readonly validateConfig: (config: PodSandboxConfig__Output) => void
}

/** containerd leaves the usual prefix out, and iSulad all of it. */
const CONFIG_TYPES: readonly string[] = [
  '',
  'PodSandboxConfig',
  'runtime.v1.PodSandboxConfig',
  'type.googleapis.com/runtime.v1.PodSandboxConfig',
]
/** What a map of a caller's own keys is called in the configuration: those are not names of fields. */
const MAPS: readonly string[] = ['labels', 'annotations', 'sysctls', 'unified']

/** @throws CodedError `InvalidArgument` for what is no id of a sandbox here. */
function checkNewId(id: string): string {
  if (/^[0-9a-f]{64}$/.test(id)) return id
  throw invalidField('sandbox_id', `must be 64 lower-case hex characters: ${JSON.stringify(id.slice(0, 80))}`)
}

/**
 * What a Create asks for.
 * @throws CodedError `InvalidArgument` naming the field, or as {@link CreateDeps.validateConfig}.
 */
export function servedRequest(
  request: ControllerCreateRequest__Output,
  namespace: string,
  options: CreateOptions,
  deps: CreateDeps,
): ServedRequest {
  const { sandbox_id, netns_path: netnsPath, rootfs, sandbox } = request
  const id = checkNewId(sandbox_id)
  if (rootfs.length > 0) throw invalidField('rootfs', 'must be empty: a sandbox has a root file system of its own here')
  if (netnsPath !== '') checkPath('netns_path', netnsPath)
  const config = decodeConfig(request.options, deps.codec)
  try {
    deps.validateConfig(config)
  } catch (error) {
    if (error instanceof CodedError) throw new CodedError(error.code, `options: ${error.message}`, { cause: error })
    throw error
  }
  const ips = toldIps(sandbox?.extensions['metadata'])
  return { id, config, netnsPath, ips, shim: shimRequest(sandbox?.runtime ?? null, namespace, options) }
}

function checkPath(field: string, path: string): void {
  const isSound = path.startsWith('/') && path.length < 4096 && !/\p{Cc}/u.test(path) && !path.split('/').includes('..')
  if (!isSound) throw invalidField(field, `must be an absolute path without "..": ${JSON.stringify(path.slice(0, 80))}`)
}

/** By its content: older clients write JSON, and most do not name the type as the specification of Any has it. */
function decodeConfig(options: Any__Output | null, codec: ConfigCodec): PodSandboxConfig__Output {
  if (!options || options.value.length === 0) throw invalidField('options', 'must hold a PodSandboxConfig')
  if (!CONFIG_TYPES.includes(options.type_url)) {
    const named = JSON.stringify(options.type_url.slice(0, 80))
    throw invalidField('options.type_url', `${named} is none of ${CONFIG_TYPES.slice(1).join(', ')}`)
  }
  const bytes = Buffer.from(options.value)
  try {
    if (bytes[0] !== '{'.charCodeAt(0)) return codec.deserialize(bytes)
    const json: unknown = JSON.parse(bytes.toString('utf8'), (key, value: unknown) =>
      MAPS.includes(key) ? value : withProtoNames(value),
    )
    return codec.deserialize(codec.serialize(json as PodSandboxConfig))
  } catch (error) {
    throw invalidField('options.value', `not a PodSandboxConfig: ${errorMessage(error)}`)
  }
}

/** The JSON of protobuf may have either form of a name: `log_directory`, `logDirectory`. */
function withProtoNames(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const renamed = Object.entries(value).map(([key, member]) => [
    key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    member as unknown,
  ])
  return Object.fromEntries(renamed) as unknown
}

/** The addresses in the record of containerd's CRI. They go into a file; what is none is of no use there. */
function toldIps(extension: Any__Output | undefined): string[] {
  if (!extension) return []
  let told: unknown
  try {
    told = JSON.parse(Buffer.from(extension.value).toString('utf8'))
  } catch {
    // Another front end may have something else under that name.
    return []
  }
  const { Metadata } = (told ?? {}) as { Metadata?: { IP?: unknown; AdditionalIPs?: unknown } | null }
  const additional: readonly unknown[] = Array.isArray(Metadata?.AdditionalIPs) ? Metadata.AdditionalIPs : []
  return [Metadata?.IP, ...additional].filter((ip): ip is string => typeof ip === 'string' && isIP(ip) !== 0)
}

function shimRequest(
  runtime: { readonly name: string; readonly options: Any__Output | null } | null,
  namespace: string,
  { defaultShim, eventsAddress }: CreateOptions,
): ShimRequest | null {
  if (!runtime?.name) {
    return defaultShim === null ? null : { runtimeType: defaultShim, options: null, namespace, eventsAddress }
  }
  const { name, options } = runtime
  if (name.startsWith('/')) checkPath('sandbox.runtime.name', name)
  else if (!/^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){1,9}$/.test(name) || name.length > 255) {
    const shown = JSON.stringify(name.slice(0, 80))
    throw invalidField('sandbox.runtime.name', `must be as io.containerd.runc.v2, or the path of a shim: ${shown}`)
  }
  const given = options && options.type_url !== '' ? options : null
  return {
    runtimeType: name,
    options: given && { typeUrl: given.type_url, value: Buffer.from(given.value).toString('base64') },
    namespace,
    eventsAddress,
  }
}
