import { CodedError, invalidField } from '../core/errors.ts'
import type { IDMapping__Output } from '../generated/runtime/v1/IDMapping.ts'
import type { LinuxContainerResources__Output } from '../generated/runtime/v1/LinuxContainerResources.ts'
import type { LinuxPodSandboxConfig__Output } from '../generated/runtime/v1/LinuxPodSandboxConfig.ts'
import { NamespaceMode } from '../generated/runtime/v1/NamespaceMode.ts'
import type { NamespaceOption__Output } from '../generated/runtime/v1/NamespaceOption.ts'
import type { UserNamespace__Output } from '../generated/runtime/v1/UserNamespace.ts'
import { cgroupsPath } from '../oci/cgroups-path.ts'
import { int64 } from '../oci/int64.ts'
import { podNamespaces } from '../oci/namespaces.ts'
import { linuxResources } from '../oci/resources.ts'
import { ownedSysctls } from '../oci/sysctls.ts'
import { checkEnum, checkUint32 } from './checks.ts'
import { checkSecurityContext } from './validate-security.ts'

export type CgroupDriver = 'cgroupfs' | 'systemd'

const FIELD = 'config.linux'
/** 2^32-1 stands for "no id". */
const MAX_IDS = 2 ** 32 - 1
const OPTIONS = `${FIELD}.security_context.namespace_options`

/**
 * Checks `config.linux`. Where the runtime spec is made from a field, the function that makes it is the check: there is
 * one opinion of what is valid.
 */
export function checkLinux(
  linux: LinuxPodSandboxConfig__Output,
  node: { readonly cgroupDriver: CgroupDriver; readonly hasUserNamespaces: boolean },
): void {
  const { cgroupDriver, hasUserNamespaces } = node
  const options = linux.security_context?.namespace_options ?? null
  if (options !== null) checkNamespaceOptions(OPTIONS, options, ['POD', 'CONTAINER', 'NODE'])
  if (options?.userns_options?.mode === 'POD' && !hasUserNamespaces) {
    throw new CodedError(
      'FailedPrecondition',
      `${OPTIONS}.userns_options: user namespaces are not supported by runtime handler`,
    )
  }
  if (linux.security_context !== null) checkSecurityContext(`${FIELD}.security_context`, linux.security_context)
  cgroupsPath({ driver: cgroupDriver, cgroupParent: linux.cgroup_parent, id: '' })
  ownedSysctls(linux.sysctls, podNamespaces(options))
  checkResources(`${FIELD}.overhead`, linux.overhead)
  checkResources(`${FIELD}.resources`, linux.resources)
}

/** Checks what pods and containers have in common; `pidModes` are those that the one in question may have. */
export function checkNamespaceOptions(
  field: string,
  options: NamespaceOption__Output,
  pidModes: readonly string[],
): void {
  checkMode(`${field}.network`, options.network, ['POD', 'NODE'])
  checkMode(`${field}.pid`, options.pid, pidModes)
  checkMode(`${field}.ipc`, options.ipc, ['POD', 'NODE'])
  if (options.userns_options === null) return
  checkUserNamespace(`${field}.userns_options`, options.userns_options)
  // Status does not announce the feature.
  if (options.userns_options.mode === 'POD' && options.network === 'NODE') {
    throw invalidField(`${field}.userns_options.mode`, "POD is not supported with the node's network")
  }
}

function checkUserNamespace(field: string, userns: UserNamespace__Output): void {
  checkMode(`${field}.mode`, userns.mode, ['POD', 'NODE'])
  for (const key of ['uids', 'gids'] as const) {
    const mappings = userns[key]
    if (userns.mode === 'POD') checkUserMapping(`${field}.${key}`, mappings)
    else if (mappings.length > 0) {
      throw invalidField(`${field}.${key}`, "the node's user namespace has no mappings to choose")
    }
  }
}

/** The kubelet gives one range per pod, and everything in a container assumes that there is a root. */
function checkUserMapping(field: string, mappings: readonly IDMapping__Output[]): void {
  if (mappings.length !== 1) throw invalidField(field, `${mappings.length} mappings are not one`)
  checkIdMappings(field, mappings)
  if (mappings[0]?.container_id !== 0) throw invalidField(`${field}[0].container_id`, 'id 0 must be mapped')
}

/** Ranges of ids that are not empty and end before 2^32-1, which is no id. */
export function checkIdMappings(field: string, mappings: readonly IDMapping__Output[]): void {
  for (const [at, mapping] of mappings.entries()) {
    for (const key of ['host_id', 'container_id', 'length'] as const) {
      checkUint32(`${field}[${at}].${key}`, mapping[key])
    }
    const { host_id: hostId, container_id: containerId, length } = mapping
    if (length === 0) throw invalidField(`${field}[${at}].length`, 'must not be 0')
    if (Math.max(hostId, containerId) + length > MAX_IDS) {
      throw invalidField(`${field}[${at}].length`, `${length} leads beyond the largest id`)
    }
  }
}

function checkMode(field: string, mode: string, allowed: readonly string[]): void {
  checkEnum(field, mode, NamespaceMode)
  if (!allowed.includes(mode)) throw invalidField(field, `${mode} is none of ${allowed.join(', ')}`)
}

/** Checks the cgroup limits and the `oom_score_adj` of a pod or a container. */
export function checkResources(field: string, resources: LinuxContainerResources__Output | null): void {
  if (resources === null) return
  // Whether the node has cgroup v2, which `unified` needs, is for the sandbox to find out.
  linuxResources(resources, { field, cgroupV2: true })
  const score = int64(`${field}.oom_score_adj`, resources.oom_score_adj, -1000n)
  if (score > 1000n) throw invalidField(`${field}.oom_score_adj`, `${score} is not between -1000 and 1000`)
}
