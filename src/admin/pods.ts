import type { ContainerRecordData } from '../container/container.ts'
import { isListed as isListedContainer } from '../container/container-index.ts'
import { sandboxIps } from '../cni/result.ts'
import type { SandboxRecord } from '../sandbox/sandbox.ts'
import type { PodSummary } from './api.ts'
import { isoOfNs } from './times.ts'

/** A sandbox, of the running daemon or as it is on record. */
export type SandboxFacts = Pick<SandboxRecord, 'metadata' | 'status' | 'networks' | 'entries' | 'quarantined'>
export type ContainerFacts = Pick<ContainerRecordData, 'metadata' | 'status' | 'entries' | 'quarantined'>

/** The pods, newest first; also those that no front end is shown any more, or yet. */
export function podSummaries(
  sandboxes: readonly SandboxFacts[],
  containers: readonly ContainerFacts[],
): readonly PodSummary[] {
  const counts = new Map<string, number>()
  for (const { metadata } of containers.filter((container) => isListedContainer(container))) {
    counts.set(metadata.sandboxId, (counts.get(metadata.sandboxId) ?? 0) + 1)
  }
  return sandboxes
    .toSorted((a, b) => (a.metadata.createdAtNs < b.metadata.createdAtNs ? 1 : -1))
    .map((sandbox) => podSummary(sandbox, counts.get(sandbox.metadata.id) ?? 0))
}

function podSummary({ metadata, status, networks, quarantined }: SandboxFacts, containers: number): PodSummary {
  const { name = '', namespace = '' } = metadata.config.metadata ?? {}
  const ends = status.steps.map(({ startMs, durationMs }) => startMs + durationMs)
  const ips = networks.flatMap(({ result, ifName }) => sandboxIps(result, ifName))
  return {
    id: metadata.id,
    name,
    namespace,
    state: status.state,
    quarantined,
    failure: status.failure,
    createdAt: isoOfNs(metadata.createdAtNs),
    handler: metadata.runtimeHandler,
    sandboxer: metadata.sandboxer,
    frontEnd: metadata.served ? 'sandboxer' : 'cri',
    pid: status.process?.pid ?? null,
    netns: metadata.netnsPath,
    ips: metadata.netMode === 'host' ? [] : (metadata.served?.ips ?? ips),
    containers,
    runMs: ends.length === 0 ? null : Math.max(...ends),
    steps: status.steps,
  }
}
