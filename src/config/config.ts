import type { LogLevel } from '../core/log-rooms.ts'
import { addressPath } from './rules.ts'
import type { Settings } from './schema.ts'

/** Where a server listens. */
export interface SocketConfig {
  /** Absolute path, at most 107 bytes. */
  readonly socket: string
  /** Permission bits. */
  readonly mode: number
  /** Name or numeric id of the owning group; `''` leaves it as it is. */
  readonly group: string
}

export interface LogConfig {
  readonly level: LogLevel
  /** By room, over `level`. */
  readonly levels: Readonly<Record<string, LogLevel>>
  readonly format: 'json' | 'pretty'
}

/** The server for front ends, and what it does for them. */
export interface SandboxerConfig extends SocketConfig {
  /** A key of `runtimes`, or `''`: the shim of runc for those who ask for none. */
  readonly runtimeHandler: string
  /** Directories of the front end's CRI, where it looks for the files of pods; `''` when it makes them itself. */
  readonly frontEndRoot: string
  readonly frontEndState: string
  /** Socket that shims send their events to; `''` is ours. */
  readonly eventsAddress: string
  readonly createdTtlMs: number
}

/** What a runtime handler stands for. */
export interface RuntimeHandlerConfig {
  /** Absolute path of the OCI runtime; `''` only where the sandboxer is a remote one, or a shim that needs none. */
  readonly runtime: string
  /** Directory of the OCI runtime's state; no two different runtimes share one. */
  readonly runtimeRoot: string
  /** The containerd shim, as `io.containerd.runc.v2` or an absolute path; `''` is none. */
  readonly runtimeType: string
  /** Path of the shim's own configuration; `''` is none. */
  readonly runtimeConfig: string
  /** `shim`, `pinned`, `shim-v2`, or a name in {@link Config.sandboxers}. */
  readonly sandboxer: string
}

/** A remote sandboxer. */
export interface RemoteSandboxerConfig {
  /** `unix:///path` */
  readonly address: string
  readonly networkFirst: boolean
  /** How long it may be away before its pods are not ready. */
  readonly unreachableGraceMs: number
}

/** The image store. Paths of files that may be `''` mean the node's own then. */
export interface ImagesConfig {
  readonly skopeo: string
  readonly storageTool: string
  readonly maxConcurrentPulls: number
  readonly pullTimeoutMs: number
  readonly minFreeBytes: number
  readonly registriesConf: string
  readonly certsDir: string
  readonly policy: string
}

/** The server for exec, attach and port-forward. Paths of files that are `''` mean that there is none. */
export interface StreamingConfig {
  /** An IP address; loopback unless there is a certificate. */
  readonly address: string
  /** 0 is any that is free. */
  readonly port: number
  readonly tlsCertFile: string
  readonly tlsKeyFile: string
  readonly tlsClientCaFile: string
  /** What its URLs begin with; `''` is made of address and port. */
  readonly baseUrl: string
  readonly idleTimeoutMs: number
  readonly streamCreationTimeoutMs: number
  readonly maxSessions: number
  readonly maxPending: number
}

/** Time limits in milliseconds. All are at least 1, but `stopGraceMs` and `drainMs` may be 0. */
export interface TimeoutsConfig {
  readonly runPodSandboxMs: number
  readonly cniMs: number
  readonly runtimeMs: number
  readonly stopGraceMs: number
  /** One release step at rollback, stop or remove. */
  readonly releaseMs: number
  /** One call to a remote sandboxer. */
  readonly remoteMs: number
  readonly drainMs: number
}

/**
 * The configuration of the daemon: complete, valid in itself, deeply frozen. All paths are absolute and normalized.
 * Whether the machine fits it is what `checkHost` tells.
 */
export interface Config {
  readonly root: string
  readonly state: string
  readonly netnsDir: string
  readonly checkpointKeyFile: string
  /** A key of `runtimes`. */
  readonly defaultRuntimeHandler: string
  readonly log: LogConfig
  readonly cri: SocketConfig
  readonly sandboxer: SandboxerConfig
  readonly admin: SocketConfig
  /** `address` is an IP address and a port, or `''`. */
  readonly metrics: { readonly address: string }
  /** `endpoint` is a URL, or `''`; `sampleRatio` is from 0 to 1. */
  readonly tracing: { readonly endpoint: string; readonly sampleRatio: number }
  readonly streaming: StreamingConfig
  /** By handler name. Has no prototype, so that a handler named `constructor` is not found in it. */
  readonly runtimes: Readonly<Record<string, RuntimeHandlerConfig>>
  /** How many shims of each kind are kept ready. */
  readonly shims: { readonly warm: number }
  /** Remote sandboxers by name. Has no prototype either. */
  readonly sandboxers: Readonly<Record<string, RemoteSandboxerConfig>>
  readonly cgroup: { readonly driver: 'cgroupfs' | 'systemd' }
  readonly cni: {
    readonly confDir: string
    readonly binDirs: readonly string[]
    readonly maxConcurrent: number
    readonly reloadIntervalMs: number
  }
  readonly cdi: { readonly specDirs: readonly string[] }
  readonly pause: {
    readonly binary: string
    readonly args: readonly string[]
    readonly stopSignal: string
    readonly image: string
  }
  readonly conmon: {
    readonly path: string
    /** Bytes; 0 is no limit. */
    readonly logMaxBytes: number
  }
  readonly seccomp: { readonly defaultProfile: string }
  readonly images: ImagesConfig
  readonly checkpoint: {
    readonly enabled: boolean
    readonly criu: string
    readonly timeoutMs: number
    readonly maxBytes: number
  }
  readonly stats: { readonly minIntervalMs: number; readonly writableLayerIntervalMs: number }
  readonly timeouts: TimeoutsConfig
  readonly recovery: { readonly concurrency: number }
  readonly debug: { readonly failpoints: boolean }
}

/** Derives what was left empty and changes units and names. The result is deeply frozen. */
export function toConfig(settings: Settings): Config {
  const { root, state, cni, pause, images, timeouts } = settings
  return deepFreeze({
    root,
    state,
    netnsDir: settings.netns_dir,
    checkpointKeyFile: settings.checkpoint_key_file || `${root}/checkpoint.key`,
    defaultRuntimeHandler: settings.default_runtime_handler,
    log: settings.log,
    cri: toSocket(settings.cri, `${state}/cri.sock`),
    sandboxer: toSandboxer(settings.sandboxer, `${state}/sandboxer.sock`),
    admin: toSocket(settings.admin, `${state}/admin.sock`),
    metrics: settings.metrics,
    tracing: { endpoint: settings.tracing.endpoint, sampleRatio: settings.tracing.sample_ratio },
    streaming: toStreaming(settings.streaming),
    runtimes: mapTable(
      settings.runtimes,
      ({ runtime, runtime_root, runtime_type, runtime_config, sandboxer }, name) => ({
        runtime,
        runtimeRoot: runtime_root || `${state}/runtime/${name}`,
        runtimeType: runtime_type,
        runtimeConfig: runtime_config,
        sandboxer: sandboxer || (runtime_type === '' ? 'shim' : 'shim-v2'),
      }),
    ),
    shims: settings.shims,
    sandboxers: mapTable(settings.sandboxers, ({ address, network_first, unreachable_grace }) => ({
      address: `unix://${addressPath(address)}`,
      networkFirst: network_first,
      unreachableGraceMs: toMs(unreachable_grace),
    })),
    cgroup: settings.cgroup,
    cni: {
      confDir: cni.conf_dir,
      binDirs: cni.bin_dirs,
      maxConcurrent: cni.max_concurrent,
      reloadIntervalMs: toMs(cni.reload_interval_seconds),
    },
    cdi: { specDirs: settings.cdi.spec_dirs },
    pause: { binary: pause.binary, args: pause.args, stopSignal: pause.stop_signal, image: pause.image },
    conmon: { path: settings.conmon.path, logMaxBytes: settings.conmon.log_max_bytes },
    seccomp: { defaultProfile: settings.seccomp.default_profile },
    images: {
      skopeo: images.skopeo,
      storageTool: images.storage_tool,
      maxConcurrentPulls: images.max_concurrent_pulls,
      pullTimeoutMs: toMs(images.pull_timeout),
      minFreeBytes: images.min_free_bytes,
      registriesConf: images.registries_conf,
      certsDir: images.certs_dir,
      policy: images.policy,
    },
    checkpoint: {
      enabled: settings.checkpoint.enabled,
      criu: settings.checkpoint.criu,
      timeoutMs: toMs(settings.checkpoint.timeout),
      maxBytes: settings.checkpoint.max_bytes,
    },
    stats: {
      minIntervalMs: toMs(settings.stats.min_interval_seconds),
      writableLayerIntervalMs: toMs(settings.stats.writable_layer_interval_seconds),
    },
    timeouts: {
      runPodSandboxMs: toMs(timeouts.run_pod_sandbox),
      cniMs: toMs(timeouts.cni),
      runtimeMs: toMs(timeouts.runtime),
      stopGraceMs: toMs(timeouts.stop_grace),
      releaseMs: toMs(timeouts.release),
      remoteMs: toMs(timeouts.remote),
      drainMs: toMs(timeouts.drain),
    },
    recovery: settings.recovery,
    debug: settings.debug,
  })
}

function toSandboxer(settings: Settings['sandboxer'], byDefault: string): SandboxerConfig {
  return {
    ...toSocket(settings, byDefault),
    runtimeHandler: settings.runtime_handler,
    frontEndRoot: settings.front_end_root,
    frontEndState: settings.front_end_state,
    eventsAddress: settings.events_address,
    createdTtlMs: toMs(settings.created_ttl),
  }
}

function toSocket(settings: Pick<Settings['cri'], 'socket' | 'mode' | 'group'>, byDefault: string): SocketConfig {
  const { socket, mode, group } = settings
  return { socket: socket || byDefault, mode: typeof mode === 'number' ? mode : parseMode(mode), group }
}

function toStreaming(settings: Settings['streaming']): StreamingConfig {
  return {
    address: settings.address,
    port: settings.port,
    tlsCertFile: settings.tls_cert_file,
    tlsKeyFile: settings.tls_key_file,
    tlsClientCaFile: settings.tls_client_ca_file,
    baseUrl: settings.base_url,
    idleTimeoutMs: toMs(settings.idle_timeout),
    streamCreationTimeoutMs: toMs(settings.stream_creation_timeout),
    maxSessions: settings.max_sessions,
    maxPending: settings.max_pending,
  }
}

function parseMode(text: string): number {
  return Number.parseInt(text.replace('o', ''), 8)
}

function toMs(seconds: number): number {
  return Math.round(seconds * 1000)
}

function mapTable<T, U>(table: Record<string, T>, convert: (value: T, name: string) => U): Record<string, U> {
  const result = Object.create(null) as Record<string, U>
  for (const [name, value] of Object.entries(table)) result[name] = convert(value, name)
  return result
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) deepFreeze(member)
  }
  return value
}
