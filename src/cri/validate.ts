import { invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { PodSandboxMetadata__Output } from '../generated/runtime/v1/PodSandboxMetadata.ts'
import type { RunPodSandboxRequest__Output } from '../generated/runtime/v1/RunPodSandboxRequest.ts'
import { checkAbsolutePath, checkPathSafe, checkText, shown } from './checks.ts'
import { type CgroupDriver, checkLinux } from './validate-linux.ts'
import { checkDnsConfig, checkHostname, checkPortMappings } from './validate-network.ts'

/** Kubernetes allows 256 KiB of annotations; this leaves room and still fits every message and checkpoint. */
const MAX_MAP_BYTES = 1024 * 1024
/** An id of ours has 64; others succeed at Stop and Remove as unknown ones, but must be something to search for. */
const MAX_ID_BYTES = 256

/** What RunPodSandbox works with. */
export interface RunPodSandbox {
  readonly config: PodSandboxConfig__Output
  readonly runtimeHandler: string
}

/**
 * Checks every field of a RunPodSandboxRequest, so that a bad one is refused before anything was touched. What the
 * machine would have to be asked for (does the seccomp profile exist, is AppArmor there) is left to the sandbox.
 *
 * @throws CodedError `InvalidArgument` that begins with the path of the field (`config.metadata.name: …`), or
 * `FailedPrecondition` for a user namespace, which no runtime handler has.
 */
export function validateRunPodSandbox(
  request: RunPodSandboxRequest__Output,
  cgroupDriver: CgroupDriver,
): RunPodSandbox {
  const { config, runtime_handler: runtimeHandler } = request
  if (config === null) throw invalidField('config', 'is missing')
  checkMetadata('config.metadata', config.metadata)
  checkHostname('config.hostname', config.hostname)
  if (config.log_directory !== '') checkAbsolutePath('config.log_directory', config.log_directory)
  if (config.dns_config !== null) checkDnsConfig('config.dns_config', config.dns_config)
  checkPortMappings('config.port_mappings', config.port_mappings)
  checkMap('config.labels', config.labels)
  checkMap('config.annotations', config.annotations)
  if (config.linux !== null) checkLinux(config.linux, cgroupDriver)
  if (config.windows !== null) throw invalidField('config.windows', 'this node runs Linux pods only')
  if (runtimeHandler !== '') checkPathSafe('runtime_handler', runtimeHandler, 253)
  return { config, runtimeHandler }
}

/** A sandbox id, or the beginning of one, as the caller gave it. @throws CodedError `InvalidArgument`. */
export function validateSandboxId(field: string, id: string): string {
  if (id === '') throw invalidField(field, 'must not be empty')
  checkText(field, id, MAX_ID_BYTES)
  return id
}

/** @throws CodedError `InvalidArgument` for labels or annotations that could not be given back exactly. */
function checkMap(field: string, map: Readonly<Record<string, string>>): void {
  let bytes = 0
  for (const [key, value] of Object.entries(map)) {
    checkText(`${field}[${shown(key)}]`, key, MAX_MAP_BYTES)
    // The one key that a plain object cannot hold safely.
    if (key === '__proto__') throw invalidField(`${field}[${shown(key)}]`, 'is not a usable key')
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value)
  }
  if (bytes > MAX_MAP_BYTES) throw invalidField(field, `${bytes} bytes in all are more than ${MAX_MAP_BYTES}`)
}

function checkMetadata(field: string, metadata: PodSandboxMetadata__Output | null): void {
  if (metadata === null) throw invalidField(field, 'is missing')
  checkNamePart(`${field}.name`, metadata.name, 253)
  checkNamePart(`${field}.namespace`, metadata.namespace, 63)
  checkPathSafe(`${field}.uid`, metadata.uid, 128)
  if (!Number.isInteger(metadata.attempt) || metadata.attempt < 0 || metadata.attempt > 0xffff_ffff) {
    throw invalidField(`${field}.attempt`, `${metadata.attempt} is no uint32`)
  }
}

/**
 * Looser than Kubernetes, which wants lower case, but without `_`: that separates the parts of
 * `k8s_POD_<name>_<namespace>_<uid>_<attempt>`, and two pods must never get the same name.
 */
function checkNamePart(field: string, value: string, maxBytes: number): void {
  checkPathSafe(field, value, maxBytes)
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(value)) {
    throw invalidField(field, `only letters, digits, "-" and "." are allowed, at the ends no sign: ${shown(value)}`)
  }
}
