import { readdir } from 'node:fs/promises'
import { posix } from 'node:path'
import { CodedError, invalidField } from '../core/errors.ts'
import type { HostPath, HostPathRequest } from '../host/host-paths.ts'
import type { ContainerDevices } from '../oci/container-input.ts'
import { hostDevice } from '../oci/host-device.ts'
import type { Device, DeviceRule } from '../oci/spec.ts'
import type { ContainerConfig } from './types.ts'

export interface DeviceDeps {
  /** Looks at paths, following links. One answer for each request. */
  readonly hostPaths: (requests: readonly HostPathRequest[]) => Promise<readonly HostPath[]>
  /** The names in a directory at which `hostPaths` looked before. By default as node:fs reads them. */
  readonly listDirectory?: (path: string) => Promise<readonly string[]>
}

interface FoundDevice {
  readonly node: Device
  readonly access: string
}

/** What of /dev is not a device of the node: other file systems, and the console, which runtimes make themselves. */
const NOT_DEVICES: readonly string[] = ['console', 'fd', 'mqueue', 'ptmx', 'pts', 'shm']
const MAX_DEVICES = 4096
const MAX_DEPTH = 16

/**
 * The device nodes of a container and what it may do with them: those that it asks for, each a device or a directory of
 * devices of the node, and for a privileged one all of /dev before them.
 *
 * @throws CodedError `InvalidArgument` naming the device, `FailedPrecondition` when the node does not have it.
 */
export async function planDevices(config: ContainerConfig, deps: DeviceDeps): Promise<ContainerDevices> {
  const privileged = config.linux?.security_context?.privileged ?? false
  const all: FoundDevice[] = privileged ? await walk('/dev', '/dev', 'rwm', deps) : []
  const asked = config.devices.map((device, at) => {
    const field = `config.devices[${at}]`
    checkPath(`${field}.host_path`, device.host_path)
    const containerPath = device.container_path || device.host_path
    checkPath(`${field}.container_path`, containerPath)
    return { field, hostPath: device.host_path, containerPath, access: checkedAccess(field, device.permissions) }
  })
  const requests = asked.map(({ hostPath }) => ({ path: hostPath, create: false }))
  const found = requests.length === 0 ? [] : await deps.hostPaths(requests)
  for (const [at, { field, hostPath, containerPath, access }] of asked.entries()) {
    const host = found[at]
    if (host?.kind === 'directory') all.push(...(await walk(host.path, containerPath, access, deps)))
    else {
      const node = host && hostDevice(containerPath, host)
      if (!node) throw new CodedError('FailedPrecondition', `${field}.host_path: ${hostPath} is no device of this node`)
      all.push({ node, access })
    }
  }
  const nodes = new Map(all.map(({ node }) => [node.path, node]))
  return { nodes: [...nodes.values()], rules: all.flatMap(deviceRule) }
}

/** The devices below a directory. Links are not followed, or /dev/core would lead into /proc. */
async function walk(hostDir: string, containerDir: string, access: string, deps: DeviceDeps): Promise<FoundDevice[]> {
  const found: FoundDevice[] = []
  let level = [{ hostDir, containerDir }]
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > MAX_DEPTH) throw new CodedError('FailedPrecondition', `list the devices in ${hostDir}: too deep`)
    const below: typeof level = []
    for (const dir of level) {
      const names = (await (deps.listDirectory ?? readdir)(dir.hostDir)).filter((name) => !NOT_DEVICES.includes(name))
      const paths = names.map((name) => posix.join(dir.hostDir, name))
      const hosts = await deps.hostPaths(paths.map((path) => ({ path, create: false })))
      for (const [at, host] of hosts.entries()) {
        // A link: its target has another name.
        if (host.path !== paths[at]) continue
        const containerPath = posix.join(dir.containerDir, names[at] ?? '')
        if (host.kind === 'directory') below.push({ hostDir: host.path, containerDir: containerPath })
        const node = hostDevice(containerPath, host)
        if (node) found.push({ node, access })
      }
      if (found.length > MAX_DEVICES) {
        throw new CodedError('FailedPrecondition', `list the devices in ${hostDir}: more than ${MAX_DEVICES}`)
      }
    }
    level = below
  }
  return found
}

function deviceRule({ node: { type, major, minor }, access }: FoundDevice): DeviceRule[] {
  return type === 'p' ? [] : [{ allow: true, type, major, minor, access }]
}

function checkedAccess(field: string, permissions: string): string {
  const access = permissions || 'rwm'
  if (/^[rwm]{1,3}$/.test(access) && new Set(access).size === access.length) return access
  throw invalidField(`${field}.permissions`, `must be of r, w and m: ${JSON.stringify(permissions.slice(0, 80))}`)
}

function checkPath(field: string, path: string): void {
  if (/^\/[^\p{Cc}]{1,4095}$/u.test(path) && !path.split('/').includes('..')) return
  throw invalidField(field, `must be an absolute path without "..": ${JSON.stringify(path.slice(0, 256))}`)
}
