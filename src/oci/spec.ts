/**
 * The parts of the OCI runtime specification 1.0.2 (config.md, config-linux.md) that we write.
 * 64-bit numbers are bigint: only {@link ociJson} turns a spec into text, because JSON.stringify cannot.
 */
export interface Spec {
  /** crun 1.8 refuses anything above 1.1; every runtime in use takes 1.0.2. */
  readonly ociVersion: '1.0.2'
  readonly process: Process
  readonly root: Root
  readonly hostname?: string
  readonly mounts: readonly Mount[]
  readonly hooks?: Hooks
  readonly annotations: Readonly<Record<string, string>>
  readonly linux: Linux
}

export type HookName = 'prestart' | 'createRuntime' | 'createContainer' | 'startContainer' | 'poststart' | 'poststop'

/** Programs of the node that the runtime runs, by the moment at which it does. */
export type Hooks = Readonly<Partial<Record<HookName, readonly Hook[]>>>

export interface Hook {
  readonly path: string
  readonly args?: readonly string[]
  readonly env?: readonly string[]
  /** Seconds. */
  readonly timeout?: number
}

export interface Process {
  readonly terminal: boolean
  readonly user: User
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly capabilities: Capabilities
  readonly noNewPrivileges: boolean
  readonly oomScoreAdj: number
  readonly apparmorProfile?: string
  readonly selinuxLabel?: string
}

export interface User {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
}

export interface Capabilities {
  readonly bounding: readonly string[]
  readonly effective: readonly string[]
  readonly permitted: readonly string[]
  readonly inheritable: readonly string[]
  readonly ambient: readonly string[]
}

export interface Root {
  readonly path: string
  readonly readonly: boolean
}

export interface Mount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
  /** OCI 1.1: an id-mapped mount. Only for runtimes that know it; others would mount without a word. */
  readonly uidMappings?: readonly IdMapping[]
  readonly gidMappings?: readonly IdMapping[]
}

/** `size` ids of the node from `hostID` on appear as `containerID` and those that follow. */
export interface IdMapping {
  readonly containerID: number
  readonly hostID: number
  readonly size: number
}

export interface Linux {
  readonly namespaces: readonly Namespace[]
  readonly cgroupsPath: string
  readonly resources: Resources
  readonly sysctl?: Readonly<Record<string, string>>
  readonly seccomp?: LinuxSeccomp
  readonly maskedPaths: readonly string[]
  readonly readonlyPaths: readonly string[]
  readonly mountLabel?: string
  readonly devices?: readonly Device[]
  readonly rootfsPropagation?: 'rslave' | 'rshared'
  readonly uidMappings?: readonly IdMapping[]
  readonly gidMappings?: readonly IdMapping[]
  readonly intelRdt?: IntelRdt
}

/** A node that the runtime makes in the container: character, block or FIFO. */
export interface Device {
  readonly path: string
  readonly type: 'c' | 'b' | 'p'
  readonly major: number
  readonly minor: number
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

export interface IntelRdt {
  readonly closID?: string | undefined
  readonly l3CacheSchema?: string | undefined
  readonly memBwSchema?: string | undefined
  readonly enableCMT?: boolean | undefined
  readonly enableMBM?: boolean | undefined
}

export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'cgroup' | 'user'

/** Without `path` the runtime makes a new namespace; a type that is not listed is the runtime's own. */
export interface Namespace {
  readonly type: NamespaceType
  readonly path?: string
}

export interface Resources {
  readonly devices?: readonly DeviceRule[]
  readonly cpu?: CpuResources
  readonly memory?: MemoryResources
  readonly hugepageLimits?: readonly HugepageLimit[]
  /** Files of the cgroup v2 directory and what to write into them. */
  readonly unified?: Readonly<Record<string, string>>
}

/** Without type, major or minor: all of them. */
export interface DeviceRule {
  readonly allow: boolean
  readonly type?: 'c' | 'b'
  readonly major?: number
  readonly minor?: number
  /** Of `r`, `w` and `m` (mknod). */
  readonly access: string
}

export interface CpuResources {
  readonly shares?: bigint
  /** Microseconds of CPU time per period; -1 is unlimited. */
  readonly quota?: bigint
  /** Microseconds. */
  readonly period?: bigint
  readonly cpus?: string
  readonly mems?: string
}

/** Bytes; -1 is unlimited. `swap` counts memory and swap together. */
export interface MemoryResources {
  readonly limit?: bigint
  readonly swap?: bigint
}

/** `pageSize` as in the kernel's file names (`2MB`), `limit` in bytes. */
export interface HugepageLimit {
  readonly pageSize: string
  readonly limit: bigint
}

export interface LinuxSeccomp {
  readonly defaultAction: SeccompAction
  readonly defaultErrnoRet?: number
  readonly architectures: readonly string[]
  readonly flags?: readonly string[]
  readonly listenerPath?: string
  readonly listenerMetadata?: string
  readonly syscalls: readonly SeccompSyscall[]
}

export interface SeccompSyscall {
  readonly names: readonly string[]
  readonly action: SeccompAction
  readonly errnoRet?: number
  readonly args?: readonly SeccompArg[]
}

export interface SeccompArg {
  readonly index: number
  readonly value: bigint
  readonly valueTwo?: bigint
  readonly op: SeccompOperator
}

export type SeccompAction =
  | 'SCMP_ACT_KILL'
  | 'SCMP_ACT_KILL_PROCESS'
  | 'SCMP_ACT_KILL_THREAD'
  | 'SCMP_ACT_TRAP'
  | 'SCMP_ACT_ERRNO'
  | 'SCMP_ACT_TRACE'
  | 'SCMP_ACT_ALLOW'
  | 'SCMP_ACT_LOG'
  | 'SCMP_ACT_NOTIFY'

export type SeccompOperator =
  | 'SCMP_CMP_NE'
  | 'SCMP_CMP_LT'
  | 'SCMP_CMP_LE'
  | 'SCMP_CMP_EQ'
  | 'SCMP_CMP_GE'
  | 'SCMP_CMP_GT'
  | 'SCMP_CMP_MASKED_EQ'
