import { CodedError, invalidField } from '../core/errors.ts'
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
import { checkEnum } from './checks.ts'
import { checkSecurityContext } from './validate-security.ts'

export type CgroupDriver = 'cgroupfs' | 'systemd'

const FIELD = 'config.linux'
const OPTIONS = `${FIELD}.security_context.namespace_options`

/**
 * Checks `config.linux`. Where the runtime spec is made from a field, the function that makes it is the check: there is
 * one opinion of what is valid.
 */
export function checkLinux(linux: LinuxPodSandboxConfig__Output, cgroupDriver: CgroupDriver): void {
  const options = linux.security_context?.namespace_options ?? null
  if (options !== null) checkNamespaceOptions(options)
  if (linux.security_context !== null) checkSecurityContext(`${FIELD}.security_context`, linux.security_context)
  cgroupsPath({ driver: cgroupDriver, cgroupParent: linux.cgroup_parent, id: '' })
  ownedSysctls(linux.sysctls, podNamespaces(options))
  checkResources(`${FIELD}.overhead`, linux.overhead)
  checkResources(`${FIELD}.resources`, linux.resources)
}

function checkNamespaceOptions(options: NamespaceOption__Output): void {
  checkMode(`${OPTIONS}.network`, options.network, ['POD', 'NODE'])
  checkMode(`${OPTIONS}.pid`, options.pid, ['POD', 'CONTAINER', 'NODE'])
  checkMode(`${OPTIONS}.ipc`, options.ipc, ['POD', 'NODE'])
  if (options.userns_options !== null) checkUserNamespace(`${OPTIONS}.userns_options`, options.userns_options)
}

function checkUserNamespace(field: string, userns: UserNamespace__Output): void {
  checkMode(`${field}.mode`, userns.mode, ['POD', 'NODE'])
  if (userns.mode === 'POD') {
    throw new CodedError('FailedPrecondition', `${field}: user namespaces are not supported by runtime handler`)
  }
  if (userns.uids.length > 0) throw invalidField(`${field}.uids`, "the node's user namespace has no mappings to choose")
  if (userns.gids.length > 0) throw invalidField(`${field}.gids`, "the node's user namespace has no mappings to choose")
}

function checkMode(field: string, mode: string, allowed: readonly string[]): void {
  checkEnum(field, mode, NamespaceMode)
  if (!allowed.includes(mode)) throw invalidField(field, `${mode} is none of ${allowed.join(', ')}`)
}

function checkResources(field: string, resources: LinuxContainerResources__Output | null): void {
  if (resources === null) return
  // Whether the node has cgroup v2, which `unified` needs, is for the sandbox to find out.
  linuxResources(resources, { field, cgroupV2: true })
  const score = int64(`${field}.oom_score_adj`, resources.oom_score_adj, -1000n)
  if (score > 1000n) throw invalidField(`${field}.oom_score_adj`, `${score} is not between -1000 and 1000`)
}
