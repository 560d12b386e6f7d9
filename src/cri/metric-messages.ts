import type { ContainerMetrics } from '../generated/runtime/v1/ContainerMetrics.ts'
import type { Metric } from '../generated/runtime/v1/Metric.ts'
import type { MetricDescriptor } from '../generated/runtime/v1/MetricDescriptor.ts'
import type { PodSandboxMetrics } from '../generated/runtime/v1/PodSandboxMetrics.ts'
import type { ContainerSample, MetricsSample } from '../stats/types.ts'
import { CONTAINER_METRICS, type MetricSource, POD_METRICS } from './metric-table.ts'

/** The labels that every metric has. */
const LABEL_KEYS: readonly string[] = ['pod', 'namespace', 'container', 'id', 'image']

/** What all metrics are called and labelled: the same at all times. */
export function metricDescriptors(): MetricDescriptor[] {
  return [...CONTAINER_METRICS, ...POD_METRICS].map(({ name, help, labelKeys }) => ({
    name,
    help,
    label_keys: [...LABEL_KEYS, ...labelKeys],
  }))
}

/** The metrics of a pod and its containers. Values come in the order of the descriptors' keys. */
export function toPodSandboxMetrics(sample: MetricsSample): PodSandboxMetrics {
  const { target, network, containers } = sample
  const { name, namespace } = target.metadata
  const labels = [name, namespace, '', target.id, '']
  return {
    pod_sandbox_id: target.id,
    metrics: network ? toMetrics(POD_METRICS, network.interfaces, labels, network.atNs) : [],
    container_metrics: containers.flatMap((container) => toContainerMetrics(sample, container)),
  }
}

function toContainerMetrics(pod: MetricsSample, sample: ContainerSample): ContainerMetrics[] {
  const { cgroup, target } = sample
  const atNs = (cgroup?.cpu ?? cgroup?.memory)?.atNs
  if (!cgroup?.detail || atNs === undefined) return []
  const { name, namespace } = pod.target.metadata
  const facts = { sample, cgroup, detail: cgroup.detail, fileSystem: pod.fileSystem, atNs }
  const labels = [name, namespace, target.metadata.name, target.id, target.image]
  return [{ container_id: target.id, metrics: toMetrics(CONTAINER_METRICS, facts, labels, atNs) }]
}

function toMetrics<Facts>(
  sources: readonly MetricSource<Facts>[],
  facts: Facts,
  labels: readonly string[],
  atNs: bigint,
): Metric[] {
  const timestamp = atNs.toString()
  return sources.flatMap(({ name, type, values }) =>
    values(facts).map(([more, value]) => ({
      name,
      timestamp,
      metric_type: type,
      label_values: [...labels, ...more],
      value: { value },
    })),
  )
}
