import { posix } from 'node:path'
import { invalidField } from '../core/errors.ts'
import type { Device__Output } from '../generated/runtime/v1/Device.ts'
import type { Mount__Output } from '../generated/runtime/v1/Mount.ts'
import { MountPropagation } from '../generated/runtime/v1/MountPropagation.ts'
import { checkAbsolutePath, checkEnum, checkText, shown } from './checks.ts'
import { checkImageSpec } from './validate-image-spec.ts'
import { checkIdMappings } from './validate-linux.ts'

/** Checks what can be said of mounts without looking at what they mount. */
export function checkMounts(field: string, mounts: readonly Mount__Output[]): void {
  for (const [at, mount] of mounts.entries()) checkMount(`${field}[${at}]`, mount)
}

/** Device nodes of the machine; without a path in the container they appear where they are. */
export function checkDevices(field: string, devices: readonly Device__Output[]): void {
  for (const [at, device] of devices.entries()) {
    const path = `${field}[${at}]`
    checkAbsolutePath(`${path}.host_path`, device.host_path)
    if (device.container_path !== '') checkAbsolutePath(`${path}.container_path`, device.container_path)
    if (!/^[rwm]{0,3}$/.test(device.permissions)) {
      throw invalidField(`${path}.permissions`, `not made of r, w and m: ${shown(device.permissions)}`)
    }
  }
}

function checkMount(field: string, mount: Mount__Output): void {
  checkAbsolutePath(`${field}.container_path`, mount.container_path)
  if (/^\/+$/.test(posix.normalize(mount.container_path))) {
    throw invalidField(`${field}.container_path`, 'must not be the root of the container')
  }
  checkEnum(`${field}.propagation`, mount.propagation, MountPropagation)
  checkSource(field, mount)
  checkRecursiveReadOnly(`${field}.recursive_read_only`, mount)
  checkIdMappings(`${field}.uidMappings`, mount.uidMappings)
  checkIdMappings(`${field}.gidMappings`, mount.gidMappings)
  if ((mount.uidMappings.length === 0) !== (mount.gidMappings.length === 0)) {
    throw invalidField(`${field}.uidMappings`, 'and gidMappings need each other')
  }
  // Status does not announce the feature; a mount without the `noexec` it was to have would be less safe than asked for.
  if (mount.mount_options.length > 0) throw invalidField(`${field}.mount_options`, 'are not supported')
}

/** Either a path of the node or an image. */
function checkSource(field: string, { host_path: hostPath, image, image_sub_path: subPath }: Mount__Output): void {
  if (image === null || image.image === '') {
    if (subPath !== '') throw invalidField(`${field}.image_sub_path`, 'needs image')
    checkAbsolutePath(`${field}.host_path`, hostPath)
    return
  }
  if (hostPath !== '') throw invalidField(`${field}.host_path`, 'must be empty where an image is mounted')
  checkImageSpec(`${field}.image`, image)
  checkText(`${field}.image_sub_path`, subPath, 4096)
  if (subPath.startsWith('/') || subPath.split('/').includes('..')) {
    throw invalidField(`${field}.image_sub_path`, `must be a relative path without "..": ${shown(subPath)}`)
  }
}

/** The CRI's own rules for it. */
function checkRecursiveReadOnly(field: string, mount: Mount__Output): void {
  if (!mount.recursive_read_only) return
  if (!mount.readonly) throw invalidField(field, 'needs readonly')
  if (mount.propagation !== 'PROPAGATION_PRIVATE') throw invalidField(field, 'needs PROPAGATION_PRIVATE')
}
