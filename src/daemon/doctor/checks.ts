import { join } from 'node:path'
import { loadConfigs } from '../../cni/config-directory.ts'
import type { CniNetworks } from '../../cni/cni-networks.ts'
import type { Config } from '../../config/config.ts'
import { OverlayMounts } from '../../container/kinds/overlay.ts'
import { containersDir } from '../../container/paths.ts'
import type { Sealer } from '../../core/seal.ts'
import type { Check } from '../../doctor/doctor.ts'
import { missingResources } from '../../doctor/missing.ts'
import { orphanAddresses } from '../../doctor/orphans/addresses.ts'
import { orphanCgroups } from '../../doctor/orphans/cgroups.ts'
import { orphanDirectories, orphanExits } from '../../doctor/orphans/directories.ts'
import { orphanMounts } from '../../doctor/orphans/mounts.ts'
import { orphanNamespaces } from '../../doctor/orphans/namespaces.ts'
import { orphanCheck } from '../../doctor/orphans/orphans.ts'
import { orphanProcesses, orphanShims } from '../../doctor/orphans/processes.ts'
import { rowsWithoutProcess } from '../../doctor/processes.ts'
import type { Records } from '../../doctor/records.ts'
import { containerRows, sandboxRows } from '../../doctor/rows.ts'
import { damagedDatabases, staleFiles } from '../../doctor/stale-files.ts'
import { CgroupParents } from '../../executor/cgroup-parents.ts'
import { readExit } from '../../executor/exit-watch.ts'
import type { LeftOptions } from '../../executor/left-containers.ts'
import { Removal } from '../../executor/removal.ts'
import { RuntimeCommands } from '../../executor/runtime-commands.ts'
import type { Shims } from '../../executor/shim/shims.ts'
import { TASK_NAMESPACE } from '../../executor/task/task-channel.ts'
import { cgroupMounts } from '../../host/cgroup/cgroup.ts'
import { removeTree } from '../../host/files.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import type { Libc } from '../../host/libc.ts'
import type { Programs } from '../../host/programs/programs.ts'
import { removeStrangersTree } from '../../host/remove-tree.ts'
import { Directories } from '../../lifecycle/directories.ts'
import { NetnsPins } from '../../netns/netns.ts'
import { ShmMounts } from '../../sandbox/kinds/shm.ts'
import { UsernsPins } from '../../sandbox/kinds/userns.ts'
import { nameless } from '../../sandbox/load.ts'
import { sandboxesDir } from '../../sandbox/paths.ts'
import type { Logger } from '../../telemetry/logger.ts'

/** Where host-local keeps its addresses when a network says nothing else. */
const HOST_LOCAL_DIR = '/var/lib/cni/networks'
/** A daemon notices the end of a process within a moment. */
const PATIENCE_MS = 3000

/** What the checks stand on: the same for a daemon and without one. */
export interface DoctorParts {
  readonly bootId: string
  readonly isDaemonUp: boolean
  readonly records: Records
  readonly sealer: Sealer
  readonly kernel: Kernel
  readonly programs: Programs
  readonly libc: Libc
  readonly shims: Pick<Shims, 'listOwned' | 'derive' | 'delete'>
  readonly networks: () => Promise<Pick<CniNetworks, 'plan' | 'del'>>
  readonly logger: Logger
}

/** All that is looked into, in this order: processes before what they use, directories last. */
export function doctorChecks(config: Config, parts: DoctorParts): Check[] {
  const { records, sealer, bootId } = parts
  const { root } = config
  const temporary = async (): Promise<string[]> => [
    root,
    ...records.sandboxes().map(({ id }) => join(sandboxesDir(root), id)),
    ...records.containers().map(({ id }) => join(containersDir(root), id)),
  ]
  return [
    sandboxRows({ roots: config, bootId }, { records, sealer }),
    containerRows({ roots: config, bootId }, { records, sealer }),
    lifeless(config, parts),
    ...orphans(config, parts),
    missing(config, parts),
    staleFiles(temporary),
    damagedDatabases(root),
  ]
}

function lifeless(config: Config, { bootId, isDaemonUp, records, shims }: DoctorParts): Check {
  const exitsDir = join(config.state, 'exits')
  return rowsWithoutProcess(
    { bootId, patienceMs: isDaemonUp ? PATIENCE_MS : 0 },
    {
      records,
      hasShim: (id) => shims.listOwned().some(({ taskId }) => taskId === id),
      exitOf: (id) => readExit(exitsDir, id),
      isDaemonUp,
    },
  )
}

function orphans(config: Config, parts: DoctorParts): Check[] {
  const { records, kernel, libc, programs, shims, bootId } = parts
  const { root, state } = config
  const exitsDir = join(state, 'exits')
  const netns = new NetnsPins({ directory: config.netnsDir }, { kernel })
  const mounts = cgroupMounts()
  const ofSandboxes = new Directories(
    { parents: [sandboxesDir(root), sandboxesDir(state)] },
    { remove: (path) => removeTree(path) },
  )
  const ofContainers = new Directories(
    { parents: [containersDir(root), containersDir(state)] },
    { remove: (path, signal) => removeStrangersTree(path, programs.run, signal) },
  )
  const runtimes = new RuntimeCommands({ timeoutMs: config.timeouts.runtimeMs }, { programs })
  const removal = new Removal(
    { exitsDir, bootId },
    { libc, runtimes, parents: new CgroupParents(mounts), cgroupMounts: mounts },
  )
  const isDirectoryOurs = [root, state].some((directory) => config.netnsDir.startsWith(`${directory}/`))
  return [
    orphanShims((id) => join(sandboxesDir(state), id), { records, shims, netns }),
    orphanProcesses(() => leftOptions(config, bootId), { records, removal, libc }),
    orphanMounts(state, { records, kernel }),
    // The plugins clean up more while the namespace is there.
    addresses(config, parts, netns),
    orphanNamespaces({ isDirectoryOurs }, { records, netns }),
    orphanCgroups({ records, mounts }),
    orphanExits(exitsDir, { records }),
    orphanDirectories('container', { records, directories: ofContainers }),
    orphanDirectories('sandbox', { records, directories: ofSandboxes }),
  ].map(orphanCheck)
}

/** Where containers of conmon can be found without a record, by the configuration as it is at this moment. */
export function leftOptions(config: Config, bootId: string): LeftOptions {
  const { state } = config
  const systemdCgroup = config.cgroup.driver === 'systemd'
  const runtimes = Object.values(config.runtimes)
    .filter(({ runtime, runtimeRoot }) => runtime !== '' && runtimeRoot.startsWith(`${state}/`))
    // Where shims have it, that of each namespace has a directory.
    .flatMap(({ runtime: path, runtimeRoot }) =>
      [runtimeRoot, join(runtimeRoot, TASK_NAMESPACE)].map((root) => ({ path, root, systemdCgroup })),
    )
  return {
    exitsDir: join(state, 'exits'),
    bundleParents: [sandboxesDir(state), containersDir(state)],
    runtimes,
    bootId,
  }
}

function addresses(config: Config, { records, networks, logger }: DoctorParts, netns: NetnsPins) {
  return orphanAddresses({
    records,
    dataDirs: () => hostLocalDirs(config, records),
    detach: async (network, id, signal) => {
      const found = await networks()
      const pod = { id, netnsPath: netns.plan(id).path, config: nameless(id).config }
      const attachments = found.plan(pod).filter((attachment) => attachment.network === network)
      for (const attachment of attachments) await found.del(attachment, null, signal)
      return attachments.length > 0
    },
    warn: (fields, message) => logger.warn(fields, message),
  })
}

/** By the networks that are configured, and by those that pods on record were attached to. */
async function hostLocalDirs({ cni }: Config, records: Records): Promise<readonly string[]> {
  const { configs } = await loadConfigs(cni.confDir)
  const recorded = records.sandboxes().flatMap(({ entries }) => entries.filter(({ kind }) => kind === 'cni'))
  const dirs = [...configs, ...recorded.map(({ record }) => record)].flatMap(dataDirsIn)
  return [...new Set([HOST_LOCAL_DIR, ...dirs])]
}

/** Plugins delegate to others, so that host-local may be configured at any depth. */
function dataDirsIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  const { type, dataDir } = value as { readonly type?: unknown; readonly dataDir?: unknown }
  const own = type === 'host-local' && typeof dataDir === 'string' && dataDir.startsWith('/') ? [dataDir] : []
  return [...own, ...Object.values(value).flatMap(dataDirsIn)]
}

function missing(config: Config, { records, kernel, bootId }: DoctorParts): Check {
  return missingResources(bootId, {
    records,
    ofSandboxes: [
      new NetnsPins({ directory: config.netnsDir }, { kernel }),
      new UsernsPins(config, { kernel }),
      new ShmMounts(config, { kernel }),
    ],
    ofContainers: [new OverlayMounts(config, { kernel })],
    kernel,
  })
}
