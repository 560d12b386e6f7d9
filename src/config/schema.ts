import { constants } from 'node:os'
import { z } from 'zod'
import { isLogRoom, LOG_LEVELS, LOG_ROOMS } from '../core/log-rooms.ts'
import { shimName } from '../core/runtime-type.ts'
import {
  addressProblem,
  baseUrlProblem,
  bytesProblem,
  graceProblem,
  groupProblem,
  ipProblem,
  listenProblem,
  isMode,
  optionalPathProblem,
  pathProblem,
  portProblem,
  ratioProblem,
  secondsProblem,
} from './rules.ts'

/** The sandboxers that are part of the daemon; no remote one may take their names. */
export const BUILT_IN_SANDBOXERS: readonly string[] = ['shim', 'pinned', 'shim-v2']

const text = (problem: (value: string) => string | undefined) =>
  z.string().superRefine((value, context) => {
    const message = problem(value)
    if (message !== undefined) context.addIssue({ code: 'custom', message })
  })

const number = (problem: (value: number) => string | undefined) =>
  z.number().superRefine((value, context) => {
    const message = problem(value)
    if (message !== undefined) context.addIssue({ code: 'custom', message })
  })

const path = text(pathProblem)
const optionalPath = text(optionalPathProblem)
const group = text(groupProblem)
const seconds = number(secondsProblem)
const plain = text((value) => (/\p{Cc}/u.test(value) ? 'must not contain control characters' : undefined))
const runtimeType = text((value) =>
  value === '' || shimName(value) !== undefined ? undefined : 'must be as io.containerd.runc.v2, or an absolute path',
)
const logRoom = text((value) => (isLogRoom(value) ? undefined : `must be one of ${LOG_ROOMS.join(', ')}`))
const signal = text((value) =>
  Object.hasOwn(constants.signals, value) ? undefined : 'must be the name of a signal, as SIGINT',
)
const count = number((value) =>
  Number.isInteger(value) && value >= 1 && value <= 1024 ? undefined : 'must be a whole number between 1 and 1024',
)
const fewOrNone = number((value) =>
  Number.isInteger(value) && value >= 0 && value <= 64 ? undefined : 'must be a whole number between 0 and 64',
)
const bytes = number((value) =>
  Number.isSafeInteger(value) && value >= 0 ? undefined : 'must be a whole number of bytes',
)
const modeProblem = 'must be a file mode: octal text as "0660", or an integer of at most 0o777'
// Checked outside the members: a union with one member that almost fits gives that member's words.
const mode = z.union([z.string(), z.number()], { error: modeProblem }).refine(isMode, { error: modeProblem })
// A handler's name becomes the name of a directory and is compared with what the kubelet sends.
const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'must be a name of at most 63 letters, digits, "_", "." and "-"')

const socketKeys = (file: string) => ({
  socket: optionalPath.default('').describe(`Path of the Unix socket. Empty: <state>/${file}.`),
  mode: mode.default('0660').describe('Permissions of the socket. Whoever may write to it is root on this node.'),
  group: group
    .default('')
    .describe('Group that owns the socket: a name in /etc/group or a numeric id. Empty: that of the daemon.'),
})

const runtime = z.strictObject({
  runtime: optionalPath
    .default('')
    .describe(
      'Absolute path of the OCI runtime. May be left out where a remote sandboxer or a shim of its own kind needs none.',
    ),
  runtime_root: optionalPath
    .default('')
    .describe('Directory where the OCI runtime keeps its state. Empty: <state>/runtime/<NAME>.'),
  runtime_type: runtimeType
    .default('')
    .describe(
      'The containerd shim that runs the pods and their containers: as "io.containerd.runc.v2" (found on PATH), or its ' +
        'absolute path. Empty: none, containers run under conmon. A remote sandboxer is told of it.',
    ),
  runtime_config: optionalPath
    .default('')
    .describe('Configuration file of the shim of a runtime_type other than that of runc, which is told where it is.'),
  sandboxer: plain
    .default('')
    .describe(
      'Who runs the pods of this handler: "shim" (a pause process), "pinned" (pinned namespaces, a pause process only ' +
        'for a shared PID namespace), "shim-v2" (the shim of runtime_type), or the NAME of one of [sandboxers]. ' +
        'Empty: "shim-v2" with a runtime_type, "shim" without.',
    ),
})

const sandboxer = z.strictObject({
  address: text(addressProblem).describe('Unix socket where it serves the Controller API: "unix:///path" or "/path".'),
  network_first: z
    .boolean()
    .default(true)
    .describe(
      "Set up a pod's network before the sandboxer is told to make the pod, as containerd does. false: at the same time.",
    ),
  unreachable_grace: number(graceProblem)
    .default(30)
    .describe(
      'How long it may be away, in seconds, before its pods are shown as not ready. The kubelet replaces those.',
    ),
})

/**
 * What the configuration file may say: every key with its default and its description, in the order in which they are
 * printed. `--print-default-config` and docs/configuration.md are made from it. Unknown keys are refused.
 */
export const settingsSchema = z.strictObject({
  root: path.default('/var/lib/sandboxerd').describe('Directory of what must survive a reboot: database, checkpoints.'),
  state: path.default('/run/sandboxerd').describe('Directory of what ends with a reboot: sockets, runtime state.'),
  netns_dir: path.default('/run/netns').describe('Directory where the network namespaces of pods are pinned.'),
  checkpoint_key_file: optionalPath
    .default('')
    .describe('The key that seals checkpoints, made when it is missing. Empty: <root>/checkpoint.key.'),
  default_runtime_handler: plain.default('crun').describe('The handler of [runtimes] for pods that do not name one.'),
  log: z
    .strictObject({
      level: z.enum(LOG_LEVELS).default('info').describe('What is logged at least: trace, debug, info, warn or error.'),
      levels: z
        .record(logRoom, z.enum(LOG_LEVELS))
        .default({})
        .describe('The level of single rooms over that of all, as { cni = "debug" }.'),
      format: z.enum(['json', 'pretty']).default('json').describe('"json", one object per line, or "pretty" for eyes.'),
    })
    .prefault({})
    .describe('Logging, to standard output.'),
  cri: z.strictObject(socketKeys('cri.sock')).prefault({}).describe('The CRI server (kubelet, crictl).'),
  sandboxer: z
    .strictObject({
      ...socketKeys('sandboxer.sock'),
      runtime_handler: plain
        .default('')
        .describe(
          'The handler of [runtimes] for sandboxes whose front end names no shim (iSulad); it needs a runtime_type. ' +
            'Empty: io.containerd.runc.v2 as it is installed.',
        ),
      front_end_root: optionalPath
        .default('')
        .describe(
          "Root directory of the front end's CRI, where hosts, hostname and resolv.conf of pods are made for it: for " +
            'containerd /var/lib/containerd/io.containerd.grpc.v1.cri. Empty: the front end makes them (iSulad).',
        ),
      front_end_state: optionalPath
        .default('')
        .describe(
          'Its state directory, where the /dev/shm of pods is shown: /run/containerd/io.containerd.grpc.v1.cri. Empty where front_end_root is.',
        ),
      events_address: optionalPath
        .default('')
        .describe(
          'ttrpc socket of the front end that shims tell of containers killed for want of memory: for containerd ' +
            '/run/containerd/containerd.sock.ttrpc. Empty: they tell only us.',
        ),
      created_ttl: seconds
        .default(600)
        .describe('What was created or started, and no front end has asked for since, is removed after this time.'),
    })
    .prefault({})
    .describe('The sandbox Controller server (containerd, iSulad).'),
  admin: z
    .strictObject({ ...socketKeys('admin.sock'), mode: mode.default('0600').describe('Permissions of the socket.') })
    .prefault({})
    .describe('The server for sandboxerctl and for whoever collects metrics on this node: HTTP.'),
  metrics: z
    .strictObject({
      address: text(listenProblem)
        .default('')
        .describe(
          'IP address and port where Prometheus gets metrics over HTTP, as "127.0.0.1:9464". Empty: on the admin socket only.',
        ),
    })
    .prefault({})
    .describe('Metrics of the daemon.'),
  tracing: z
    .strictObject({
      endpoint: text(baseUrlProblem)
        .default('')
        .describe('OTLP/HTTP collector, as "http://127.0.0.1:4318". Empty: no traces.'),
      sample_ratio: number(ratioProblem)
        .default(1)
        .describe(
          'Which part of the traces that begin here is kept; those of a caller are kept where the caller does.',
        ),
    })
    .prefault({})
    .describe('OpenTelemetry traces.'),
  streaming: z
    .strictObject({
      address: text(ipProblem)
        .default('127.0.0.1')
        .describe('IP address to listen on. One that is not loopback needs tls_cert_file.'),
      port: number(portProblem).default(0).describe('TCP port. 0: any that is free.'),
      tls_cert_file: optionalPath
        .default('')
        .describe('Certificate chain of the server (PEM), read at start. Empty: no TLS.'),
      tls_key_file: optionalPath.default('').describe('The private key of tls_cert_file (PEM).'),
      tls_client_ca_file: optionalPath
        .default('')
        .describe(
          'Authorities (PEM) one of which must have signed the certificate of a client. Empty: clients need none.',
        ),
      base_url: text(baseUrlProblem)
        .default('')
        .describe(
          'What the URLs that clients get begin with. Empty: made of address and port; needed for 0.0.0.0 and ::.',
        ),
      idle_timeout: seconds.default(14_400).describe('A session that has carried nothing for so long is ended.'),
      stream_creation_timeout: seconds.default(30).describe('What a client may take to open its streams.'),
      max_sessions: count.default(1000).describe('How many sessions there are at a time; more are refused.'),
      max_pending: count
        .default(1000)
        .describe('How many URLs wait for their client at a time; they are good for a minute and for one use.'),
    })
    .prefault({})
    .describe('The server for exec, attach and port-forward; the CRI server hands out its URLs.'),
  runtimes: z
    .record(name, runtime)
    .prefault({
      crun: { runtime: '/usr/bin/crun' },
      runc: { runtime: '/usr/sbin/runc' },
      pinned: { runtime: '/usr/bin/crun', sandboxer: 'pinned' },
    })
    .describe(
      'The runtime handlers, by the name that a pod (RuntimeClass) gives. Any given here replaces all of these.',
    ),
  shims: z
    .strictObject({
      warm: fewOrNone
        .default(1)
        .describe(
          'How many shims of each kind are started before there is a pod for them, once there was one. 0: none.',
        ),
    })
    .prefault({})
    .describe('containerd shims: of handlers with a runtime_type, and of sandboxes of the sandboxer API.'),
  sandboxers: z
    .record(name, sandboxer)
    .prefault({})
    .describe('Remote sandboxers, by the name that a handler gives. Several handlers may share one.'),
  cgroup: z
    .strictObject({
      driver: z
        .enum(['cgroupfs', 'systemd'])
        .default('cgroupfs')
        .describe('Who makes cgroups: "cgroupfs" or "systemd". The kubelet asks for it and follows.'),
    })
    .prefault({})
    .describe('Control groups.'),
  cni: z
    .strictObject({
      conf_dir: path.default('/etc/cni/net.d').describe('Directory of network configurations; the first one counts.'),
      bin_dirs: z
        .array(path)
        .min(1)
        .default(['/opt/cni/bin', '/usr/lib/cni'])
        .describe('Directories where plugins are looked for, in this order.'),
      max_concurrent: count.default(16).describe('How many plugins run at a time, over all pods and networks.'),
      reload_interval_seconds: seconds
        .default(5)
        .describe('How often conf_dir is read again where the kernel does not tell of changes.'),
    })
    .prefault({})
    .describe('Pod networks.'),
  cdi: z
    .strictObject({
      spec_dirs: z
        .array(path)
        .default(['/etc/cdi', '/var/run/cdi'])
        .describe('Directories of CDI specs (*.json); of two that describe one device, the later directory counts.'),
    })
    .prefault({})
    .describe('Devices that pods ask for by name (Container Device Interface).'),
  pause: z
    .strictObject({
      binary: path
        .default('/usr/bin/catatonit')
        .describe('Static init program that is the whole of the built-in pause root file system.'),
      args: z.array(plain).default(['-P']).describe('Its arguments.'),
      stop_signal: signal.default('SIGINT').describe('The signal that ends it.'),
      image: plain.default('').describe('Pause image to use instead. Empty: the built-in root file system.'),
    })
    .prefault({})
    .describe('The process that holds the namespaces of a pod.'),
  conmon: z
    .strictObject({
      path: path.default('/usr/bin/conmon').describe('Absolute path of conmon.'),
      log_max_bytes: number(bytesProblem)
        .default(0)
        .describe(
          'Size in bytes at which the log of a container is begun anew. 0: no limit, the kubelet rotates logs.',
        ),
    })
    .prefault({})
    .describe('The monitor of each process.'),
  seccomp: z
    .strictObject({
      default_profile: path
        .default('/usr/share/containers/seccomp.json')
        .describe('The profile that RuntimeDefault stands for.'),
    })
    .prefault({})
    .describe('System call filter.'),
  images: z
    .strictObject({
      skopeo: path.default('/usr/bin/skopeo').describe('Absolute path of skopeo, which fetches images.'),
      storage_tool: path
        .default('/usr/bin/containers-storage')
        .describe('Absolute path of the program that keeps the layer store.'),
      max_concurrent_pulls: count.default(4).describe('How many images are pulled at a time; others wait.'),
      pull_timeout: seconds.default(1800).describe('One pull as a whole, in seconds.'),
      min_free_bytes: bytes
        .default(512 * 1024 * 1024)
        .describe('A pull that leaves less than this on the disk is ended, and what it has brought is removed.'),
      registries_conf: optionalPath
        .default('')
        .describe('Mirrors, insecure registries: containers-registries.conf(5). Empty: the one of the node.'),
      certs_dir: optionalPath
        .default('')
        .describe(
          'Certificates in directories named after registries: containers-certs.d(5). Empty: those of the node.',
        ),
      policy: optionalPath
        .default('')
        .describe('Which images are trusted: containers-policy.json(5). Empty: the one of the node.'),
    })
    .prefault({})
    .describe('The image store, in <root>/images.'),
  checkpoint: z
    .strictObject({
      enabled: z
        .boolean()
        .default(false)
        .describe(
          'Serve CheckpointContainer, CheckpointPod and RestorePod. What they write holds the memory of containers.',
        ),
      criu: path
        .default('/usr/sbin/criu')
        .describe('Absolute path of criu. OCI runtimes look for it by its name, first in its directory.'),
      timeout: seconds
        .default(600)
        .describe('One checkpoint, or one restore, as a whole, if the caller waits as long.'),
      max_bytes: bytes.default(16 * 1024 ** 3).describe('A checkpoint that is larger is neither written nor restored.'),
    })
    .prefault({})
    .describe('Checkpoints of containers and pods, by criu. Only what this node has written is restored.'),
  stats: z
    .strictObject({
      min_interval_seconds: seconds
        .default(1)
        .describe('Statistics younger than this are given to all who ask; nothing is measured more often.'),
      writable_layer_interval_seconds: seconds
        .default(10)
        .describe('The same for the space that the writable layer of a container takes, which is costly to count.'),
    })
    .prefault({})
    .describe('Statistics and metrics of containers and pods.'),
  timeouts: z
    .strictObject({
      run_pod_sandbox: seconds.default(240).describe('RunPodSandbox as a whole.'),
      cni: seconds.default(90).describe('One CNI operation on one network.'),
      runtime: seconds.default(60).describe('One command of the OCI runtime.'),
      stop_grace: number(graceProblem).default(10).describe('Between the stop signal and SIGKILL for a sandbox.'),
      release: seconds.default(60).describe('The release of one resource at rollback, stop or remove.'),
      remote: seconds.default(10).describe('One call to a remote sandboxer.'),
      drain: number(graceProblem).default(10).describe('For requests under way when the daemon is told to end.'),
    })
    .prefault({})
    .describe('Time limits in seconds; fractions are allowed.'),
  recovery: z
    .strictObject({ concurrency: count.default(32).describe('How many sandboxes are recovered at a time.') })
    .prefault({})
    .describe('Recovery at start.'),
  debug: z
    .strictObject({
      failpoints: z
        .boolean()
        .default(false)
        .describe(
          'Honour the environment variable SANDBOXERD_FAILPOINTS. For tests only: it ends the daemon on purpose.',
        ),
    })
    .prefault({})
    .describe('For the people who work on sandboxerd.'),
})

/** The settings as the file has them, valid key by key and with the defaults filled in. */
export type Settings = z.output<typeof settingsSchema>
