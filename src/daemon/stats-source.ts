import type { Container } from '../container/container.ts'
import type { ContainerManager } from '../container/container-manager.ts'
import { isListed as isListedContainer } from '../container/container-index.ts'
import { type ContainerRoots, containerPaths } from '../container/paths.ts'
import { cgroupDirectory, limitsDirectory } from '../executor/cgroup-directory.ts'
import type { ContainerRecord } from '../executor/types.ts'
import { isListed, isReady } from '../sandbox/sandbox-index.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { SandboxManager } from '../sandbox/sandbox-manager.ts'
import type { ContainerTarget, SandboxTarget, StatsSource } from '../stats/types.ts'
import { CONTAINER_KIND } from '../store/ledger.ts'

/** What there is to measure: what the CRI shows. */
export function statsSource(
  deps: { readonly containers: ContainerManager; readonly sandboxes: SandboxManager },
  options: { readonly roots: ContainerRoots; readonly systemdCgroup: boolean; readonly isCgroupV2: boolean },
): StatsSource {
  return {
    containers: () => deps.containers.all().flatMap((c) => (isListedContainer(c) ? [containerTarget(c, options)] : [])),
    sandboxes: () =>
      deps.sandboxes.all().flatMap((s) => (isListed(s) ? [sandboxTarget(s, options.systemdCgroup)] : [])),
  }
}

function containerTarget(
  container: Container,
  { roots, isCgroupV2 }: { readonly roots: ContainerRoots; readonly isCgroupV2: boolean },
): ContainerTarget {
  const { metadata, status } = container
  const { config } = metadata
  const entry = container.entries.find(({ kind }) => kind === CONTAINER_KIND)
  return {
    id: metadata.id,
    sandboxId: metadata.sandboxId,
    metadata: config.metadata ?? { name: '', attempt: 0 },
    labels: config.labels,
    annotations: config.annotations,
    image: config.image?.user_specified_image || config.image?.image || metadata.imageId,
    running: status.state === 'RUNNING',
    cgroupPath: entry ? limitsDirectory(entry.record as ContainerRecord, isCgroupV2) : '',
    pid: status.process?.pid ?? null,
    upperDir: containerPaths(roots, metadata.id).upper,
    startedAtNs: status.startedAtNs,
    resources: status.resources,
  }
}

function sandboxTarget(sandbox: Sandbox, systemdCgroup: boolean): SandboxTarget {
  const { metadata, status } = sandbox
  const { config } = metadata
  const { name = '', namespace = '', uid = '', attempt = 0 } = config.metadata ?? {}
  const pause = pauseRecord(sandbox)
  const cgroupPath = pause ? cgroupDirectory(pause) : ''
  const cgroupParent = config.linux?.cgroup_parent ?? ''
  return {
    id: metadata.id,
    metadata: { name, namespace, uid, attempt },
    labels: config.labels,
    annotations: config.annotations,
    ready: isReady(sandbox),
    cgroupPath,
    cgroupParent: cgroupParent === '' || !systemdCgroup ? cgroupParent : cgroupPath.replace(/\/[^/]*$/, ''),
    pid: status.process?.pid ?? null,
    netnsPath: metadata.netMode === 'cni' ? metadata.netnsPath : '',
  }
}

/** The pause container of the shim, or of a pinned sandbox that has one. */
function pauseRecord(sandbox: Sandbox): ContainerRecord | null {
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  const { record } = (entry?.record ?? {}) as { record?: Record<string, unknown> }
  const { container, pause } = (record ?? {}) as {
    container?: ContainerRecord
    pause?: { container: ContainerRecord } | null
  }
  return container ?? pause?.container ?? null
}
