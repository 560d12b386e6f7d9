import { CodedError, invalidField } from '../core/errors.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import { sandboxAnnotations } from './annotations.ts'
import { type NamespacePaths, namespaceList, podNamespaces } from './namespaces.ts'
import { capabilitySets, deviceRules, MASKED_PATHS, READONLY_PATHS } from './process-security.ts'
import { linuxResources } from './resources.ts'
import type { SelinuxLabels } from './security.ts'
import type { Linux, LinuxSeccomp, Mount, Process, Spec } from './spec.ts'
import { ownedSysctls } from './sysctls.ts'
import { sandboxUser } from './user.ts'
import { userMappings } from './user-namespace.ts'

/** What is known when the spec is built. Everything that depends on the node was read before and is handed over. */
export interface PauseSpecInput {
  readonly config: PodSandboxConfig__Output
  readonly id: string
  /** The pod's host name; `''`, or a host-network pod, leaves the node's. */
  readonly hostname: string
  /** Absolute; shared by all pods. */
  readonly rootfsPath: string
  readonly args: readonly string[]
  readonly namespaces: NamespacePaths
  /** From {@link cgroupsPath}. */
  readonly cgroupsPath: string
  readonly cgroupMode: 'v1' | 'hybrid' | 'v2'
  /** Null is unconfined. */
  readonly seccomp: LinuxSeccomp | null
  /** `''` is none. */
  readonly apparmorProfile: string
  readonly selinux: SelinuxLabels
  /** From {@link clampOomScoreAdj}. */
  readonly oomScoreAdj: number
  /** The daemon's bounding set: what "all capabilities" can be at most for a privileged pod. */
  readonly allowedCapabilities: readonly string[]
  readonly runtimeHandler: string
  readonly sandboxer: string
}

/** What other runtimes give it: next to nothing, since it only sleeps and reaps. */
const PAUSE_CPU_SHARES = 2n

/**
 * The only two mounts a pause process cannot do without; each further one would cost every pod time and show it more.
 * /proc: runc looks up its own descriptors there after the root was changed, and sysctls are set through it.
 * /dev: without a file system of its own, the runtimes make the device nodes in the shared root file system.
 * It has no use for /sys, and what the pod's containers share (/dev/shm, /dev/mqueue, resolv.conf) they mount themselves.
 */
const PAUSE_MOUNTS: readonly Mount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=64k'],
  },
]

/**
 * The runtime spec of a pod's pause process, which holds the pod's namespaces.
 *
 * @throws CodedError `InvalidArgument` naming the field of the pod's configuration that cannot be met, `Internal` when
 * the rest of the input does not fit the configuration.
 */
export function pauseSpec(input: PauseSpecInput): Spec {
  const pod = podNamespaces(input.config.linux?.security_context?.namespace_options ?? null)
  const hostname = pod.ownsNetwork ? validHostname(input.hostname) : ''
  if (!input.rootfsPath.startsWith('/') || input.args.length === 0) {
    throw new CodedError('Internal', `build the pause spec of ${input.id}: no absolute root file system or no command`)
  }
  return {
    ociVersion: '1.0.2',
    process: pauseProcess(input),
    // Read-only whatever the pod asks for: one directory serves all pods, and root in a container that shares the pod's
    // pid namespace reaches it through /proc/1/root. Writing there would change the next pod's pause program.
    root: { path: input.rootfsPath, readonly: true },
    ...(hostname === '' ? {} : { hostname }),
    mounts: PAUSE_MOUNTS,
    annotations: sandboxAnnotations(input),
    linux: pauseLinux(input),
  }
}

function pauseProcess(input: PauseSpecInput): Process {
  const context = input.config.linux?.security_context ?? null
  const privileged = context?.privileged ?? false
  const { processLabel } = input.selinux
  return {
    terminal: false,
    user: sandboxUser(context),
    args: input.args,
    env: [],
    cwd: '/',
    capabilities: capabilitySets(privileged ? input.allowedCapabilities : []),
    noNewPrivileges: !privileged,
    oomScoreAdj: input.oomScoreAdj,
    ...(input.apparmorProfile === '' ? {} : { apparmorProfile: input.apparmorProfile }),
    ...(processLabel === '' ? {} : { selinuxLabel: processLabel }),
  }
}

function pauseLinux(input: PauseSpecInput): Linux {
  const linux = input.config.linux
  const privileged = linux?.security_context?.privileged ?? false
  const pod = podNamespaces(linux?.security_context?.namespace_options ?? null)
  const cgroupV2 = input.cgroupMode === 'v2'
  const sysctl = ownedSysctls(linux?.sysctls ?? {}, pod)
  const { mountLabel } = input.selinux
  const limits = linuxResources(linux?.resources ?? null, {
    field: 'config.linux.resources',
    defaultCpuShares: PAUSE_CPU_SHARES,
    cgroupV2,
  })
  return {
    namespaces: namespaceList(pod, input.namespaces, cgroupV2),
    // For a namespace that exists already, runc wants them too.
    ...userMappings(linux?.security_context?.namespace_options ?? null),
    cgroupsPath: input.cgroupsPath,
    resources: { devices: deviceRules(privileged), ...limits },
    ...(Object.keys(sysctl).length > 0 ? { sysctl } : {}),
    ...(input.seccomp === null || privileged ? {} : { seccomp: input.seccomp }),
    // The pause reads none of these, but /proc/1/root shows its mounts to a container that shares the pid namespace.
    maskedPaths: privileged ? [] : MASKED_PATHS,
    readonlyPaths: privileged ? [] : READONLY_PATHS,
    ...(mountLabel === '' ? {} : { mountLabel }),
  }
}

function validHostname(hostname: string): string {
  if (!/^[^\p{Cc}/\s]{0,64}$/u.test(hostname) || Buffer.byteLength(hostname) > 64) {
    throw invalidField('config.hostname', 'must be at most 64 bytes without spaces, slashes or control characters')
  }
  return hostname
}
