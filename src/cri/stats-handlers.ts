import { CodedError } from '../core/errors.ts'
import type { ContainerStats } from '../generated/runtime/v1/ContainerStats.ts'
import type { ContainerStatsFilter__Output } from '../generated/runtime/v1/ContainerStatsFilter.ts'
import type { ListContainerStatsResponse } from '../generated/runtime/v1/ListContainerStatsResponse.ts'
import type { ListPodSandboxMetricsResponse } from '../generated/runtime/v1/ListPodSandboxMetricsResponse.ts'
import type { ListPodSandboxStatsResponse } from '../generated/runtime/v1/ListPodSandboxStatsResponse.ts'
import type { PodSandboxMetrics } from '../generated/runtime/v1/PodSandboxMetrics.ts'
import type { PodSandboxStats } from '../generated/runtime/v1/PodSandboxStats.ts'
import type { RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { type HandlerDeps, serverStream, unary } from '../grpc/handler.ts'
import { MAX_MESSAGE_BYTES } from '../grpc/limits.ts'
import type { ContainerSample, MetricsSample, SandboxSample, Stats, StatsFilter } from '../stats/types.ts'
import { checkText, validateId } from './checks.ts'
import { inChunks } from './list-size.ts'
import { metricDescriptors, toPodSandboxMetrics } from './metric-messages.ts'
import { toContainerStats, toPodSandboxStats } from './stats-messages.ts'

type Encode<Message> = (message: Message) => { readonly length: number }

export interface StatsHandlersDeps extends HandlerDeps {
  readonly stats: Stats
  /** What ImageFsInfo calls the file system of the writable layers. */
  readonly layersPath: string
  /** `responseSerialize` of these methods, best one that encodes the same object once: see `encodingOnce`. */
  readonly encode: {
    readonly ListContainerStats: Encode<ListContainerStatsResponse>
    readonly ListPodSandboxStats: Encode<ListPodSandboxStatsResponse>
    readonly ListPodSandboxMetrics: Encode<ListPodSandboxMetricsResponse>
  }
}

/** The methods that measure. */
export type StatsMethods = Pick<
  RuntimeServiceHandlers,
  | 'ContainerStats'
  | 'ListContainerStats'
  | 'StreamContainerStats'
  | 'PodSandboxStats'
  | 'ListPodSandboxStats'
  | 'StreamPodSandboxStats'
  | 'ListMetricDescriptors'
  | 'ListPodSandboxMetrics'
  | 'StreamPodSandboxMetrics'
>

/** Messages are made once of each sample, and lists of each list of samples, however many callers get them. */
export function statsHandlers(deps: StatsHandlersDeps): StatsMethods {
  const toContainer = once((sample: ContainerSample) => toContainerStats(sample, deps.layersPath))
  const toPod = once((sample: SandboxSample) => toPodSandboxStats(sample, toContainer))
  return { ...containerHandlers(deps, toContainer), ...podHandlers(deps, toPod), ...metricHandlers(deps) }
}

function containerHandlers(deps: StatsHandlersDeps, toMessage: (sample: ContainerSample) => ContainerStats) {
  const { stats } = deps
  const toList = once((samples: readonly ContainerSample[]) => {
    const response = { stats: samples.map(toMessage) }
    return { response, bytes: deps.encode.ListContainerStats(response).length }
  })
  return {
    ContainerStats: unary(async ({ container_id: id }, { signal }) => {
      return { stats: toMessage(await stats.container(validateId('container_id', id), signal)) }
    }, deps),
    ListContainerStats: unary(async ({ filter }, { signal }) => {
      return fitting(toList(await stats.containers(toContainerFilter(filter), signal)), 'StreamContainerStats')
    }, deps),
    StreamContainerStats: serverStream(async function* ({ filter }, { signal }) {
      const samples = await stats.containers(toContainerFilter(filter), signal)
      for (const chunk of inChunks(samples.map(toMessage))) yield { container_stats: chunk }
    }, deps),
  } satisfies Partial<StatsMethods>
}

function podHandlers(deps: StatsHandlersDeps, toMessage: (sample: SandboxSample) => PodSandboxStats) {
  const { stats } = deps
  const toList = once((samples: readonly SandboxSample[]) => {
    const response = { stats: samples.map(toMessage) }
    return { response, bytes: deps.encode.ListPodSandboxStats(response).length }
  })
  return {
    PodSandboxStats: unary(async ({ pod_sandbox_id: id }, { signal }) => {
      return { stats: toMessage(await stats.sandbox(validateId('pod_sandbox_id', id), signal)) }
    }, deps),
    ListPodSandboxStats: unary(async ({ filter }, { signal }) => {
      return fitting(toList(await stats.sandboxes(toFilter(filter), signal)), 'StreamPodSandboxStats')
    }, deps),
    StreamPodSandboxStats: serverStream(async function* ({ filter }, { signal }) {
      const samples = await stats.sandboxes(toFilter(filter), signal)
      for (const chunk of inChunks(samples.map(toMessage))) yield { pod_sandbox_stats: chunk }
    }, deps),
  } satisfies Partial<StatsMethods>
}

function metricHandlers(deps: StatsHandlersDeps) {
  const { stats } = deps
  const toMessage: (sample: MetricsSample) => PodSandboxMetrics = once(toPodSandboxMetrics)
  const toList = once((samples: readonly MetricsSample[]) => {
    const response = { pod_metrics: samples.map(toMessage) }
    return { response, bytes: deps.encode.ListPodSandboxMetrics(response).length }
  })
  return {
    ListMetricDescriptors: unary(async () => ({ descriptors: metricDescriptors() }), deps),
    ListPodSandboxMetrics: unary(async (_, { signal }) => {
      return fitting(toList(await stats.metrics(signal)), 'StreamPodSandboxMetrics')
    }, deps),
    StreamPodSandboxMetrics: serverStream(async function* (_, { signal }) {
      const samples = await stats.metrics(signal)
      for (const chunk of inChunks(samples.map(toMessage))) yield { pod_sandbox_metrics: chunk }
    }, deps),
  } satisfies Partial<StatsMethods>
}

function toContainerFilter(filter: ContainerStatsFilter__Output | null): StatsFilter {
  if (filter === null) return {}
  checkText('filter.pod_sandbox_id', filter.pod_sandbox_id, 256)
  return { ...toFilter(filter), sandboxId: filter.pod_sandbox_id }
}

function toFilter(
  filter: { readonly id: string; readonly label_selector: Readonly<Record<string, string>> } | null,
): StatsFilter {
  if (filter === null) return {}
  checkText('filter.id', filter.id, 256)
  return { id: filter.id, labels: filter.label_selector }
}

/** @throws CodedError `ResourceExhausted`: a list that is cut short would pass for a whole one. */
function fitting<Response>(
  { response, bytes }: { readonly response: Response; readonly bytes: number },
  streamName: string,
): Response {
  if (bytes <= MAX_MESSAGE_BYTES) return response
  throw new CodedError(
    'ResourceExhausted',
    `list statistics: the list takes ${bytes} bytes, a message holds ${MAX_MESSAGE_BYTES}: use ${streamName}`,
  )
}

function once<From extends object, To>(make: (from: From) => To): (from: From) => To {
  const made = new WeakMap<From, { readonly value: To }>()
  return (from) => {
    const known = made.get(from)
    if (known) return known.value
    const value = make(from)
    made.set(from, { value })
    return value
  }
}
