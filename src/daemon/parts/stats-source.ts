import type { Container } from '../../container/container.ts'
import type { ContainerManager } from '../../container/container-manager.ts'
import { isListed as isListedContainer } from '../../container/container-index.ts'
import type { ExecutedContainers } from '../../container/kinds/executed.ts'
import { type ContainerRoots, containerPaths } from '../../container/paths.ts'
import type { ControllerRegistry } from '../../controller/registry.ts'
import { cgroupDirectory, limitsDirectory, taskCgroupDirectory } from '../../executor/cgroup-directory.ts'
import type { TaskServices } from '../../executor/task/types.ts'
import { type ContainerRecord, type ExecutedRecord, isTask } from '../../executor/types.ts'
import type { Any } from '../../generated/google/protobuf/Any.ts'
import type { ControlledSandboxes } from '../../sandbox/kinds/controlled.ts'
import type { ProcessIdentity } from '../../host/process.ts'
import { isListed, isReady } from '../../sandbox/sandbox-index.ts'
import type { Sandbox } from '../../sandbox/sandbox.ts'
import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'
import type { ToldMetrics } from '../../stats/told-metrics.ts'
import type { ContainerTarget, SandboxTarget, StatsSource } from '../../stats/types.ts'
import { CONTAINER_KIND } from '../../store/ledger.ts'

export interface StatsSourceDeps {
  readonly containers: ContainerManager
  readonly sandboxes: SandboxManager
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  readonly executed: Pick<ExecutedContainers, 'of'>
  readonly services: TaskServices
}

export interface StatsSourceOptions {
  readonly roots: ContainerRoots
  readonly systemdCgroup: boolean
  readonly isCgroupV2: boolean
}

/** One question to whoever runs a container. */
const ASK_MS = 5000

/** What there is to measure: what the CRI shows. */
export function statsSource(deps: StatsSourceDeps, options: StatsSourceOptions): StatsSource {
  return {
    containers: () =>
      deps.containers.all().flatMap((c) => (isListedContainer(c) ? [containerTarget(c, deps, options)] : [])),
    sandboxes: () => deps.sandboxes.all().flatMap((s) => (isListed(s) ? [sandboxTarget(s, deps, options)] : [])),
  }
}

function containerTarget(
  container: Container,
  { executed, services }: StatsSourceDeps,
  { roots, isCgroupV2 }: StatsSourceOptions,
): ContainerTarget {
  const { metadata, status } = container
  const { config } = metadata
  const entry = container.entries.find(({ kind }) => kind === CONTAINER_KIND)
  const record = entry?.record as ExecutedRecord | undefined
  return {
    id: metadata.id,
    sandboxId: metadata.sandboxId,
    metadata: config.metadata ?? { name: '', attempt: 0 },
    labels: config.labels,
    annotations: config.annotations,
    image: config.image?.user_specified_image || config.image?.image || metadata.imageId,
    running: status.state === 'RUNNING',
    cgroupPath: record ? directoryOf(record, isCgroupV2) : '',
    pid: pidHere(status.process),
    ...(record && isTask(record)
      ? {
          askMetrics: async (signal) => {
            const now = executed.of(container)
            if (!now || !isTask(now)) return null
            const { stats } = await services.at(now.endpoint).stats({ id: now.id }, { timeoutMs: ASK_MS, signal })
            return toldOf(stats)
          },
        }
      : {}),
    upperDir: containerPaths(roots, metadata.id).upper,
    startedAtNs: status.startedAtNs,
    resources: status.resources,
  }
}

function directoryOf(record: ExecutedRecord, isCgroupV2: boolean): string {
  return isTask(record) ? taskCgroupDirectory(record) : limitsDirectory(record, isCgroupV2)
}

/** One pod, as it can be measured now. */
export function sandboxTarget(
  sandbox: Sandbox,
  { registry, controlled }: Pick<StatsSourceDeps, 'registry' | 'controlled'>,
  { systemdCgroup }: Pick<StatsSourceOptions, 'systemdCgroup'>,
): SandboxTarget {
  const { metadata, status } = sandbox
  const { config } = metadata
  const { name = '', namespace = '', uid = '', attempt = 0 } = config.metadata ?? {}
  const pause = pauseRecord(sandbox)
  const cgroupPath = pause ? cgroupDirectory(pause) : ''
  const cgroupParent = config.linux?.cgroup_parent ?? ''
  // A front end may have another driver than we.
  const isSlice = pause?.runtime.systemdCgroup ?? systemdCgroup
  return {
    id: metadata.id,
    metadata: { name, namespace, uid, attempt },
    labels: config.labels,
    annotations: config.annotations,
    ready: isReady(sandbox),
    cgroupPath,
    cgroupParent: cgroupParent === '' || !isSlice ? cgroupParent : cgroupPath.replace(/\/[^/]*$/, ''),
    pid: pidHere(status.process),
    ...askController(sandbox, registry, controlled),
    netnsPath: metadata.netMode === 'cni' ? metadata.netnsPath : '',
  }
}

function askController(
  sandbox: Sandbox,
  registry: ControllerRegistry,
  controlled: ControlledSandboxes,
): Pick<SandboxTarget, 'askMetrics'> {
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  const controller = registry.all().find(({ name }) => name === sandbox.metadata.sandboxer)
  if (!entry || !controller?.remote || !controller.metrics) return {}
  return {
    askMetrics: async (signal) => {
      const { record } = controlled.parse(entry.record)
      return toldOf((await controller.metrics?.(record, signal)) ?? null)
    },
  }
}

function toldOf(any: Any | null): ToldMetrics | null {
  if (!any || !('type_url' in any) || typeof any.type_url !== 'string' || !(any.value instanceof Uint8Array))
    return null
  return { typeUrl: any.type_url, value: any.value }
}

/** Null for a process that is where this node does not see it. */
function pidHere(process: ProcessIdentity | null): number | null {
  return process && process.startTime !== '' ? process.pid : null
}

/** The pause container of a shim, or of a pinned sandbox that has one. */
function pauseRecord(sandbox: Sandbox): ContainerRecord | null {
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  const { record } = (entry?.record ?? {}) as { record?: Record<string, unknown> }
  const { container, pause } = (record ?? {}) as {
    container?: ContainerRecord
    pause?: { container: ContainerRecord } | null
  }
  return container ?? pause?.container ?? null
}
