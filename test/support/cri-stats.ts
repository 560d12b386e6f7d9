import type { ContainerStats__Output } from '../../src/generated/runtime/v1/ContainerStats.ts'
import type { ContainerStatsFilter } from '../../src/generated/runtime/v1/ContainerStatsFilter.ts'
import type { ContainerStatsResponse__Output } from '../../src/generated/runtime/v1/ContainerStatsResponse.ts'
import type { ListContainerStatsResponse__Output } from '../../src/generated/runtime/v1/ListContainerStatsResponse.ts'
import type { ListMetricDescriptorsResponse__Output } from '../../src/generated/runtime/v1/ListMetricDescriptorsResponse.ts'
import type { ListPodSandboxMetricsResponse__Output } from '../../src/generated/runtime/v1/ListPodSandboxMetricsResponse.ts'
import type { ListPodSandboxStatsResponse__Output } from '../../src/generated/runtime/v1/ListPodSandboxStatsResponse.ts'
import type { MetricDescriptor__Output } from '../../src/generated/runtime/v1/MetricDescriptor.ts'
import type { PodSandboxMetrics__Output } from '../../src/generated/runtime/v1/PodSandboxMetrics.ts'
import type { PodSandboxStats__Output } from '../../src/generated/runtime/v1/PodSandboxStats.ts'
import type { PodSandboxStatsFilter } from '../../src/generated/runtime/v1/PodSandboxStatsFilter.ts'
import type { PodSandboxStatsResponse__Output } from '../../src/generated/runtime/v1/PodSandboxStatsResponse.ts'
import type { RuntimeServiceClient } from '../../src/generated/runtime/v1/RuntimeService.ts'
import { collected, unary } from './cri-calls.ts'

/** The calls of RuntimeService that measure, as promises. */
export class StatsClient {
  readonly #client: RuntimeServiceClient

  constructor(client: RuntimeServiceClient) {
    this.#client = client
  }

  async container(id: string): Promise<ContainerStats__Output> {
    const { stats } = await unary<ContainerStatsResponse__Output>({}, (o, done) =>
      this.#client.ContainerStats({ container_id: id }, o, done),
    )
    return present(stats, id)
  }

  async containers(filter?: ContainerStatsFilter): Promise<ContainerStats__Output[]> {
    const request = filter ? { filter } : {}
    return (
      await unary<ListContainerStatsResponse__Output>({}, (o, done) =>
        this.#client.ListContainerStats(request, o, done),
      )
    ).stats
  }

  async pod(id: string): Promise<PodSandboxStats__Output> {
    const { stats } = await unary<PodSandboxStatsResponse__Output>({}, (o, done) =>
      this.#client.PodSandboxStats({ pod_sandbox_id: id }, o, done),
    )
    return present(stats, id)
  }

  async pods(filter?: PodSandboxStatsFilter): Promise<PodSandboxStats__Output[]> {
    const request = filter ? { filter } : {}
    return (
      await unary<ListPodSandboxStatsResponse__Output>({}, (o, done) =>
        this.#client.ListPodSandboxStats(request, o, done),
      )
    ).stats
  }

  async metrics(): Promise<PodSandboxMetrics__Output[]> {
    return (
      await unary<ListPodSandboxMetricsResponse__Output>({}, (o, done) =>
        this.#client.ListPodSandboxMetrics({}, o, done),
      )
    ).pod_metrics
  }

  async descriptors(): Promise<MetricDescriptor__Output[]> {
    return (
      await unary<ListMetricDescriptorsResponse__Output>({}, (o, done) =>
        this.#client.ListMetricDescriptors({}, o, done),
      )
    ).descriptors
  }

  /** The ids of what the three streams hold. */
  async streamed(): Promise<{ containers: string[]; pods: string[]; metrics: string[] }> {
    const containers = await collected((o) => this.#client.StreamContainerStats({}, o))
    const pods = await collected((o) => this.#client.StreamPodSandboxStats({}, o))
    const metrics = await collected((o) => this.#client.StreamPodSandboxMetrics({}, o))
    return {
      containers: containers.flatMap((part) => part.container_stats).map((of) => of.attributes?.id ?? ''),
      pods: pods.flatMap((part) => part.pod_sandbox_stats).map((of) => of.attributes?.id ?? ''),
      metrics: metrics.flatMap((part) => part.pod_sandbox_metrics).map((of) => of.pod_sandbox_id),
    }
  }
}

function present<T>(value: T | null, id: string): T {
  if (value === null) throw new Error(`stats of ${id}: the answer holds none`)
  return value
}
