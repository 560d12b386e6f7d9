import { expect } from 'vitest'
import type { ErrorCode } from '../../../src/core/errors.ts'
import type { LinuxContainerResources__Output } from '../../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { LinuxPodSandboxConfig__Output } from '../../../src/generated/runtime/v1/LinuxPodSandboxConfig.ts'
import type { LinuxSandboxSecurityContext__Output } from '../../../src/generated/runtime/v1/LinuxSandboxSecurityContext.ts'
import type { NamespaceOption__Output } from '../../../src/generated/runtime/v1/NamespaceOption.ts'
import type { PodSandboxConfig__Output } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { PauseSpecInput } from '../../../src/oci/pause-spec.ts'

export const ID = 'ab'.repeat(32)

export function resources(change: Partial<LinuxContainerResources__Output> = {}): LinuxContainerResources__Output {
  return {
    cpu_period: '0',
    cpu_quota: '0',
    cpu_shares: '0',
    memory_limit_in_bytes: '0',
    oom_score_adj: '0',
    cpuset_cpus: '',
    cpuset_mems: '',
    hugepage_limits: [],
    unified: {},
    memory_swap_limit_in_bytes: '0',
    ...change,
  }
}

export function namespaceOptions(change: Partial<NamespaceOption__Output> = {}): NamespaceOption__Output {
  return { network: 'POD', pid: 'POD', ipc: 'POD', target_id: '', userns_options: null, ...change }
}

export function securityContext(
  change: Partial<LinuxSandboxSecurityContext__Output> = {},
): LinuxSandboxSecurityContext__Output {
  return {
    namespace_options: namespaceOptions(),
    selinux_options: null,
    run_as_user: null,
    run_as_group: null,
    readonly_rootfs: false,
    supplemental_groups: [],
    supplemental_groups_policy: 'Merge',
    privileged: false,
    seccomp: null,
    apparmor: null,
    seccomp_profile_path: '',
    ...change,
  }
}

export function linuxConfig(change: Partial<LinuxPodSandboxConfig__Output> = {}): LinuxPodSandboxConfig__Output {
  return {
    cgroup_parent: '',
    security_context: securityContext(),
    sysctls: {},
    overhead: null,
    resources: null,
    ...change,
  }
}

export function sandboxConfig(change: Partial<PodSandboxConfig__Output> = {}): PodSandboxConfig__Output {
  return {
    metadata: { name: 'web', uid: 'uid-1', namespace: 'default', attempt: 0 },
    hostname: 'web',
    log_directory: '/var/log/pods/web',
    dns_config: null,
    port_mappings: [],
    labels: {},
    annotations: {},
    linux: linuxConfig(),
    windows: null,
    ...change,
  }
}

export function pauseInput(change: Partial<PauseSpecInput> = {}): PauseSpecInput {
  return {
    config: sandboxConfig(),
    id: ID,
    hostname: 'web',
    rootfsPath: '/var/lib/sandboxerd/pause',
    args: ['/pause', '-P'],
    namespaces: { netPath: '/run/netns/web' },
    cgroupsPath: `/sandboxerd/${ID}`,
    cgroupMode: 'v1',
    seccomp: null,
    apparmorProfile: '',
    selinux: { processLabel: '', mountLabel: '' },
    oomScoreAdj: -998,
    allowedCapabilities: ['CAP_CHOWN', 'CAP_SYS_ADMIN'],
    runtimeHandler: '',
    sandboxer: 'shim',
    ...change,
  }
}

/** An input whose pod has this security context. */
export function inputWith(
  context: Partial<LinuxSandboxSecurityContext__Output>,
  change: Partial<PauseSpecInput> = {},
): PauseSpecInput {
  const config = sandboxConfig({ linux: linuxConfig({ security_context: securityContext(context) }) })
  return pauseInput({ config, ...change })
}

/** Matches a thrown CodedError by its code and a part of its message. */
export function coded(code: ErrorCode, message: string | RegExp = ''): unknown {
  const text: unknown = typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message)
  return expect.objectContaining({ code, message: text })
}
