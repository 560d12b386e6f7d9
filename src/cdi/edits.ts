import { CodedError } from '../core/errors.ts'
import type { ContainerEdits } from '../oci/container-input.ts'
import { hostDevice } from '../oci/host-device.ts'
import type { Device, DeviceRule, Hook, HookName, Hooks, Mount } from '../oci/spec.ts'
import type { CdiDeps } from './cdi-devices.ts'
import type { CdiDeviceNode, CdiEdits } from './cdi-spec.ts'

/**
 * Puts edits together in their order, with what they leave to the node (device numbers) filled in.
 *
 * @throws CodedError `FailedPrecondition` when the node does not have a device file that a spec names.
 */
export async function resolveEdits(edits: readonly CdiEdits[], deps: CdiDeps): Promise<ContainerEdits> {
  const nodes = edits.flatMap(({ deviceNodes }) => deviceNodes ?? [])
  const devices = await resolveNodes(nodes, deps)
  const intelRdt = edits.flatMap((one) => (one.intelRdt === undefined ? [] : [one.intelRdt])).at(-1)
  return {
    env: edits.flatMap(({ env }) => env ?? []),
    devices,
    deviceRules: devices.flatMap((device, at) => deviceRule(device, nodes[at]?.permissions || 'rwm')),
    mounts: edits.flatMap(({ mounts }) => (mounts ?? []).map(bindMount)),
    hooks: hooksOf(edits),
    // 0 is no group that a device would need; as the specification says, it is left out.
    additionalGids: edits.flatMap(({ additionalGids }) => additionalGids ?? []).filter((gid) => gid !== 0),
    intelRdt: intelRdt ?? null,
  }
}

/** A node that says all that there is to it need not be on this node. */
async function resolveNodes(nodes: readonly CdiDeviceNode[], deps: CdiDeps): Promise<Device[]> {
  const open = nodes.filter((node) => !isComplete(node))
  const requests = open.map((node) => ({ path: node.hostPath ?? node.path, create: false }))
  const found = requests.length === 0 ? [] : await deps.hostPaths(requests)
  const hosts = new Map(open.map((node, at) => [node, found[at]]))
  return nodes.map((node) => {
    const host = hosts.get(node)
    const real = host && hostDevice(node.path, host)
    const type = node.type === 'u' ? 'c' : (node.type ?? real?.type)
    if (type === undefined || (!isComplete(node) && real?.type !== type)) {
      throw new CodedError('FailedPrecondition', `use a CDI device: ${node.hostPath ?? node.path} is no such device`)
    }
    const fileMode = node.fileMode ?? real?.fileMode
    return {
      path: node.path,
      type,
      major: node.major ?? real?.major ?? 0,
      minor: node.minor ?? real?.minor ?? 0,
      ...(fileMode === undefined ? {} : { fileMode }),
      ...(node.uid === undefined ? {} : { uid: node.uid }),
      ...(node.gid === undefined ? {} : { gid: node.gid }),
    }
  })
}

function isComplete({ type, major, minor }: CdiDeviceNode): boolean {
  return type === 'p' || (type !== undefined && major !== undefined && minor !== undefined)
}

function deviceRule({ type, major, minor }: Device, access: string): DeviceRule[] {
  return type === 'p' ? [] : [{ allow: true, type, major, minor, access }]
}

function bindMount({ hostPath, containerPath, type, options }: NonNullable<CdiEdits['mounts']>[number]): Mount {
  const given = options ?? []
  const isBind = (type ?? 'bind') === 'bind'
  // Without the option, runtimes would look for a file system of the type "bind".
  const bound = isBind && !given.includes('bind') && !given.includes('rbind') ? ['rbind', ...given] : given
  return { destination: containerPath, type: type ?? 'bind', source: hostPath, options: bound }
}

function hooksOf(edits: readonly CdiEdits[]): Hooks {
  const hooks: Partial<Record<HookName, Hook[]>> = {}
  for (const { hookName, path, args, env, timeout } of edits.flatMap((one) => one.hooks ?? [])) {
    const hook: Hook = {
      path,
      ...(args === undefined ? {} : { args }),
      ...(env === undefined ? {} : { env }),
      ...(timeout === undefined ? {} : { timeout }),
    }
    hooks[hookName] = [...(hooks[hookName] ?? []), hook]
  }
  return hooks
}
