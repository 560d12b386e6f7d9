import type { Capability__Output } from '../../../src/generated/runtime/v1/Capability.ts'
import type { ContainerConfig__Output } from '../../../src/generated/runtime/v1/ContainerConfig.ts'
import type { LinuxContainerResources__Output } from '../../../src/generated/runtime/v1/LinuxContainerResources.ts'
import type { LinuxContainerSecurityContext__Output } from '../../../src/generated/runtime/v1/LinuxContainerSecurityContext.ts'
import type { Mount__Output } from '../../../src/generated/runtime/v1/Mount.ts'
import { type ContainerSpecInput, NO_EDITS } from '../../../src/oci/container-input.ts'
import { ID, linuxConfig, sandboxConfig, securityContext } from './fixtures.ts'

export const CONTAINER_ID = 'cd'.repeat(32)

/** The daemon of these tests has all but one of the default capabilities, and one more. */
export const ALLOWED = ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW', 'CAP_SYS_ADMIN']

export function containerConfig(change: Partial<ContainerConfig__Output> = {}): ContainerConfig__Output {
  return {
    metadata: { name: 'nginx', attempt: 0 },
    image: null,
    command: ['/bin/nginx'],
    args: [],
    working_dir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    log_path: '',
    stdin: false,
    stdin_once: false,
    tty: false,
    linux: null,
    windows: null,
    CDI_devices: [],
    stop_signal: 'SIGNAL_RUNTIME_DEFAULT',
    ...change,
  }
}

export function containerContext(
  change: Partial<LinuxContainerSecurityContext__Output> = {},
): LinuxContainerSecurityContext__Output {
  return {
    capabilities: null,
    privileged: false,
    namespace_options: null,
    selinux_options: null,
    run_as_user: null,
    run_as_username: '',
    readonly_rootfs: false,
    supplemental_groups: [],
    apparmor_profile: '',
    seccomp_profile_path: '',
    no_new_privs: false,
    run_as_group: null,
    masked_paths: [],
    readonly_paths: [],
    seccomp: null,
    apparmor: null,
    supplemental_groups_policy: 'Merge',
    ...change,
  }
}

export function capability(change: Partial<Capability__Output> = {}): Capability__Output {
  return { add_capabilities: [], drop_capabilities: [], add_ambient_capabilities: [], ...change }
}

export function hostMount(change: Partial<Mount__Output> = {}): Mount__Output {
  return {
    container_path: '/data',
    host_path: '/srv/data',
    readonly: false,
    selinux_relabel: false,
    propagation: 'PROPAGATION_PRIVATE',
    uidMappings: [],
    gidMappings: [],
    recursive_read_only: false,
    image: null,
    image_sub_path: '',
    mount_options: [],
    ...change,
  }
}

export function containerInput(change: Partial<ContainerSpecInput> = {}): ContainerSpecInput {
  return {
    id: CONTAINER_ID,
    sandboxId: ID,
    config: containerConfig(),
    podConfig: sandboxConfig(),
    image: { name: 'registry/nginx:1', entrypoint: [], cmd: [], env: [], workingDir: '' },
    rootfsPath: '/run/rootfs',
    hostname: 'web',
    user: { uid: 0, gid: 0, additionalGids: [0] },
    mounts: [],
    devices: { nodes: [], rules: [] },
    namespaces: {
      net: '/run/netns/web',
      ipc: '/proc/7/ns/ipc',
      uts: '/proc/7/ns/uts',
      pid: '/proc/7/ns/pid',
      user: null,
    },
    podFiles: { hostname: '/pod/hostname', hosts: '/pod/hosts', resolvConf: '/pod/resolv.conf', shm: '/pod/shm' },
    cgroupsPath: `/sandboxerd/${CONTAINER_ID}`,
    cgroupMode: 'v1',
    limits: { hugepageSizes: ['2MB'], hasSwapAccounting: true },
    seccomp: null,
    apparmorProfile: '',
    selinux: { processLabel: '', mountLabel: '' },
    oomScoreAdj: 0,
    allowedCapabilities: ALLOWED,
    cdi: NO_EDITS,
    runtimeHandler: 'crun',
    ...change,
  }
}

/** An input whose container has this security context, and these resources. */
export function containerWith(
  context: Partial<LinuxContainerSecurityContext__Output>,
  change: Partial<ContainerSpecInput> = {},
  resources: LinuxContainerResources__Output | null = null,
): ContainerSpecInput {
  const config = containerConfig({ linux: { resources, security_context: containerContext(context) } })
  return containerInput({ config, ...change })
}

/** A privileged container in a privileged pod. */
export function privilegedInput(change: Partial<ContainerSpecInput> = {}): ContainerSpecInput {
  const podConfig = sandboxConfig({ linux: linuxConfig({ security_context: securityContext({ privileged: true }) }) })
  return containerWith({ privileged: true }, { podConfig, ...change })
}
