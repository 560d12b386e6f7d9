import { isUtf8 } from 'node:buffer'
import { invalidField } from '../core/errors.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import type { ContainerMetadata__Output } from '../generated/runtime/v1/ContainerMetadata.ts'
import type { CreateContainerRequest__Output } from '../generated/runtime/v1/CreateContainerRequest.ts'
import type { KeyValue__Output } from '../generated/runtime/v1/KeyValue.ts'
import { Signal } from '../generated/runtime/v1/Signal.ts'
import {
  checkEnum,
  checkMap,
  checkNamePart,
  checkStrings,
  checkText,
  checkUint32,
  checkWord,
  shown,
  validateId,
} from './checks.ts'
import { checkContainerSecurity } from './validate-container-security.ts'
import { checkImageSpec } from './validate-image-spec.ts'
import { checkResources } from './validate-linux.ts'
import { checkDevices, checkMounts } from './validate-mounts.ts'

const MAX_PATH_BYTES = 4096

/** What CreateContainer works with. */
export interface CreateContainer {
  readonly sandboxId: string
  readonly config: ContainerConfig__Output
}

/**
 * Checks every field of a CreateContainerRequest's `config`, so that a bad one is refused before anything was touched.
 * What depends on the pod, the image or the machine is left to the container.
 *
 * @throws CodedError `InvalidArgument` that begins with the path of the field (`config.mounts[0].host_path: …`).
 */
export function validateCreateContainer(request: CreateContainerRequest__Output): CreateContainer {
  const { config } = request
  const sandboxId = validateId('pod_sandbox_id', request.pod_sandbox_id)
  if (config === null) throw invalidField('config', 'is missing')
  checkMetadata('config.metadata', config.metadata)
  if (config.image === null) throw invalidField('config.image', 'is missing')
  checkImageSpec('config.image', config.image)
  checkStrings('config.command', config.command)
  checkStrings('config.args', config.args)
  checkEnvs('config.envs', config.envs)
  checkWorkingDir('config.working_dir', config.working_dir)
  checkMounts('config.mounts', config.mounts)
  checkDevices('config.devices', config.devices)
  for (const [at, { name }] of config.CDI_devices.entries()) checkWord(`config.CDI_devices[${at}].name`, name, 1024)
  checkMap('config.labels', config.labels)
  checkMap('config.annotations', config.annotations)
  checkLogPath('config.log_path', config.log_path)
  checkEnum('config.stop_signal', config.stop_signal, Signal)
  if (config.windows !== null) throw invalidField('config.windows', 'this node runs Linux containers only')
  checkResources('config.linux.resources', config.linux?.resources ?? null)
  const security = config.linux?.security_context ?? null
  if (security !== null) checkContainerSecurity('config.linux.security_context', security)
  return { sandboxId, config }
}

function checkMetadata(field: string, metadata: ContainerMetadata__Output | null): void {
  if (metadata === null) throw invalidField(field, 'is missing')
  checkNamePart(`${field}.name`, metadata.name, 253)
  checkUint32(`${field}.attempt`, metadata.attempt)
}

function checkEnvs(field: string, envs: readonly KeyValue__Output[]): void {
  for (const [at, { key, value }] of envs.entries()) {
    const path = `${field}[${at}]`
    checkText(`${path}.key`, key, MAX_PATH_BYTES)
    if (key === '' || key.includes('=')) throw invalidField(`${path}.key`, `not a name: ${shown(key)}`)
    if (value.includes(0)) throw invalidField(`${path}.value`, 'contains a NUL character')
    // The spec of the container is JSON.
    if (!isUtf8(value)) throw invalidField(`${path}.value`, 'is not UTF-8')
    // Some runtimes make a line of passwd of it (CVE-2022-4318).
    if (key === 'HOME') checkText(`${path}.value`, value.toString(), MAX_PATH_BYTES)
  }
}

function checkWorkingDir(field: string, path: string): void {
  checkText(field, path, MAX_PATH_BYTES)
  if (path !== '' && !path.startsWith('/')) throw invalidField(field, `must be an absolute path: ${shown(path)}`)
}

/** `web/0.log`: a file below the pod's log directory; `''` is no log. */
function checkLogPath(field: string, path: string): void {
  checkText(field, path, MAX_PATH_BYTES)
  if (path === '') return
  if (path.startsWith('/')) throw invalidField(field, `must be relative to the pod's log_directory: ${shown(path)}`)
  const parts = path.split('/')
  if (parts.includes('..')) throw invalidField(field, `must not contain "..": ${shown(path)}`)
  if (['', '.'].includes(parts.at(-1) ?? '')) throw invalidField(field, `does not name a file: ${shown(path)}`)
}
