import { CodedError, invalidField } from '../core/errors.ts'
import type { LinuxContainerSecurityContext__Output } from '../generated/runtime/v1/LinuxContainerSecurityContext.ts'
import { containerAnnotations } from './container-annotations.ts'
import type { ContainerSpecInput } from './container-input.ts'
import { containerMounts, rootfsPropagation } from './container-mounts.ts'
import { containerNamespaces } from './container-namespaces.ts'
import { containerProcess } from './container-process.ts'
import { containerResources } from './container-resources.ts'
import { deviceRules, MASKED_PATHS, READONLY_PATHS } from './process-security.ts'
import type { Device, DeviceRule, Linux, Mount, Spec, User } from './spec.ts'
import { userMappings } from './user-namespace.ts'

const CONTEXT = 'config.linux.security_context'

/**
 * The runtime spec of a container. Its sysctls and host name are those of the pod's namespaces, which it joins.
 *
 * @throws CodedError `InvalidArgument` naming the field that cannot be met, `FailedPrecondition` for what this node does
 * not have, `Internal` when the rest of the input does not fit the configuration.
 */
export function containerSpec(input: ContainerSpecInput): Spec {
  const { config, podConfig, rootfsPath, cdi } = input
  const context = config.linux?.security_context ?? null
  if (context?.privileged && !podConfig.linux?.security_context?.privileged) {
    throw invalidField(`${CONTEXT}.privileged`, 'the pod is not privileged')
  }
  if (!rootfsPath.startsWith('/')) {
    throw new CodedError('Internal', `build the spec of container ${input.id}: no absolute root file system`)
  }
  const process = containerProcess(input)
  const mounts = containerMounts(input)
  return {
    ociVersion: '1.0.2',
    process,
    root: { path: rootfsPath, readonly: context?.readonly_rootfs ?? false },
    mounts,
    ...(Object.keys(cdi.hooks).length > 0 ? { hooks: cdi.hooks } : {}),
    annotations: containerAnnotations(input),
    linux: containerLinux(input, process.user, mounts),
  }
}

function containerLinux(input: ContainerSpecInput, user: User, mounts: readonly Mount[]): Linux {
  const context = input.config.linux?.security_context ?? null
  const privileged = context?.privileged ?? false
  const { mountLabel } = input.selinux
  const devices = deviceNodes(input, user)
  const propagation = rootfsPropagation(mounts)
  const limits = containerResources(input.config.linux?.resources ?? null, {
    field: 'config.linux.resources',
    cgroupMode: input.cgroupMode,
    limits: input.limits,
  })
  return {
    namespaces: containerNamespaces(input),
    cgroupsPath: input.cgroupsPath,
    resources: { devices: allowedDevices(input, privileged), ...limits },
    ...(input.seccomp === null || privileged ? {} : { seccomp: input.seccomp }),
    maskedPaths: hiddenPaths(context, 'masked_paths', MASKED_PATHS),
    readonlyPaths: hiddenPaths(context, 'readonly_paths', READONLY_PATHS),
    ...(mountLabel === '' ? {} : { mountLabel }),
    ...(devices.length > 0 ? { devices } : {}),
    ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
    ...userMappings(input.config.linux?.security_context?.namespace_options ?? null),
    ...(input.cdi.intelRdt === null ? {} : { intelRdt: input.cdi.intelRdt }),
  }
}

function allowedDevices({ devices, cdi }: ContainerSpecInput, privileged: boolean): readonly DeviceRule[] {
  return privileged ? deviceRules(true) : [...deviceRules(false), ...devices.rules, ...cdi.deviceRules]
}

/** One node for each path: a CDI device comes last and counts. */
function deviceNodes({ devices, cdi }: ContainerSpecInput, { uid, gid }: User): Device[] {
  // As CDI says: nodes without an owner belong to the container's user.
  const owner = { ...(uid > 0 ? { uid } : {}), ...(gid > 0 ? { gid } : {}) }
  const all = [...devices.nodes, ...cdi.devices.map((device) => ({ ...owner, ...device }))]
  return [...new Map(all.map((device) => [device.path, device])).values()]
}

/**
 * A list that is given replaces ours. An empty one is "not given": with the API's encoding it cannot be told from none,
 * and only in a user namespace, where kubelets allow `procMount: Unmasked`, does it take them all away.
 */
function hiddenPaths(
  context: LinuxContainerSecurityContext__Output | null,
  key: 'masked_paths' | 'readonly_paths',
  byDefault: readonly string[],
): readonly string[] {
  if (context?.privileged) return []
  const given = context?.[key] ?? []
  if (given.length === 0) return context?.namespace_options?.userns_options?.mode === 'POD' ? [] : byDefault
  for (const [at, path] of given.entries()) {
    if (!path.startsWith('/') || path.includes('\0') || path.split('/').includes('..')) {
      throw invalidField(`${CONTEXT}.${key}[${at}]`, `must be an absolute path without "..": ${JSON.stringify(path)}`)
    }
  }
  return given
}
