import type { Containers } from '../container/types.ts'
import type { PodSandbox } from '../generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxFilter__Output } from '../generated/runtime/v1/PodSandboxFilter.ts'
import { PodSandboxState } from '../generated/runtime/v1/PodSandboxState.ts'
import type { RuntimeServiceDefinition, RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { unary } from '../grpc/handler.ts'
import type { Sandboxes } from '../sandbox/types.ts'
import type { Stats } from '../stats/types.ts'
import { type CheckpointHandlerDeps, checkpointHandlers } from './checkpoint-handlers.ts'
import { checkEnum, checkText, validateId } from './checks.ts'
import { type ContainerHandlerDeps, containerHandlers } from './container-handlers.ts'
import { listHandlers } from './list-handlers.ts'
import { nodeHandlers } from './node-handlers.ts'
import type { NodeStatus } from './node-status.ts'
import { isReady, toPodSandbox, toPodSandboxStatus } from './sandbox-messages.ts'
import { encodingOnce } from './shared-answers.ts'
import { type StatsHandlersDeps, statsHandlers } from './stats-handlers.ts'
import { type StreamingHandlerDeps, streamingHandlers } from './streaming-handlers.ts'
import { checkResources } from './validate-linux.ts'
import { validateRunPodSandbox } from './validate.ts'

export interface RuntimeServiceOptions {
  /** The version of the daemon. */
  readonly runtimeVersion: string
  /** What ImageFsInfo calls the file system of the containers' writable layers. */
  readonly layersPath: string
}

export interface RuntimeServiceDeps extends ContainerHandlerDeps, CheckpointHandlerDeps, StreamingHandlerDeps {
  readonly containers: Containers
  readonly sandboxes: Sandboxes
  readonly node: NodeStatus
  readonly stats: Stats
  /** From {@link servedContract}, for the exact sizes of lists. */
  readonly wire: RuntimeServiceDefinition
}

/** The contract as it is to be served: a list of statistics that many callers get at once is encoded once. */
export function servedContract(service: RuntimeServiceDefinition): RuntimeServiceDefinition {
  const { ListContainerStats, ListPodSandboxStats, ListPodSandboxMetrics } = service
  return {
    ...service,
    ListContainerStats: {
      ...ListContainerStats,
      responseSerialize: encodingOnce(ListContainerStats.responseSerialize),
    },
    ListPodSandboxStats: {
      ...ListPodSandboxStats,
      responseSerialize: encodingOnce(ListPodSandboxStats.responseSerialize),
    },
    ListPodSandboxMetrics: {
      ...ListPodSandboxMetrics,
      responseSerialize: encodingOnce(ListPodSandboxMetrics.responseSerialize),
    },
  }
}

/** The CRI front: validates, calls, maps. Holds no state. gRPC answers UNIMPLEMENTED for methods that are not here. */
export function runtimeService(options: RuntimeServiceOptions, deps: RuntimeServiceDeps) {
  const { stats, wire, ...handler } = deps
  return {
    ...nodeHandlers(options, deps),
    ...sandboxHandlers(deps),
    ...sandboxListHandlers(deps),
    ...containerHandlers(deps),
    ...checkpointHandlers(deps),
    ...streamingHandlers(deps),
    ...statsHandlers({ ...handler, stats, layersPath: options.layersPath, encode: encoders(wire) }),
  } satisfies Partial<RuntimeServiceHandlers>
}

function encoders(wire: RuntimeServiceDefinition): StatsHandlersDeps['encode'] {
  return {
    ListContainerStats: wire.ListContainerStats.responseSerialize,
    ListPodSandboxStats: wire.ListPodSandboxStats.responseSerialize,
    ListPodSandboxMetrics: wire.ListPodSandboxMetrics.responseSerialize,
  }
}

function sandboxHandlers(deps: RuntimeServiceDeps) {
  const { sandboxes, containers, node } = deps
  return {
    RunPodSandbox: unary(async (request, { signal }) => {
      return { pod_sandbox_id: await sandboxes.run(validateRunPodSandbox(request, node), signal) }
    }, deps),
    StopPodSandbox: unary(async (request, { signal }) => {
      await sandboxes.stop(validateId('pod_sandbox_id', request.pod_sandbox_id), signal)
      return {}
    }, deps),
    RemovePodSandbox: unary(async (request, { signal }) => {
      await sandboxes.remove(validateId('pod_sandbox_id', request.pod_sandbox_id), signal)
      return {}
    }, deps),
    UpdatePodSandboxResources: unary(async (request, { signal }) => {
      const { overhead, resources } = request
      const id = validateId('pod_sandbox_id', request.pod_sandbox_id)
      checkResources('overhead', overhead)
      checkResources('resources', resources)
      await sandboxes.updateResources(id, { overhead, resources }, signal)
      return {}
    }, deps),
    PodSandboxStatus: unary(async (request, { signal }) => {
      const { metadata } = sandboxes.get(validateId('pod_sandbox_id', request.pod_sandbox_id))
      const info = request.verbose ? await sandboxes.info(metadata.id, signal) : undefined
      // Of one moment, whatever the info had to wait for.
      return toPodSandboxStatus(sandboxes.get(metadata.id), containers.list({ sandboxId: metadata.id }), info)
    }, deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

function sandboxListHandlers({ sandboxes, wire, ...handler }: RuntimeServiceDeps) {
  const { list, stream } = listHandlers(
    {
      what: 'pod sandboxes',
      streamName: 'StreamPodSandboxes',
      items: async ({ filter }: { filter: PodSandboxFilter__Output | null }) => listed(sandboxes, filter),
      toList: (items) => ({ items }),
      toPart: (items) => ({ pod_sandboxes: items }),
      encode: wire.ListPodSandbox.responseSerialize,
    },
    handler,
  )
  return { ListPodSandbox: list, StreamPodSandboxes: stream } satisfies Partial<RuntimeServiceHandlers>
}

function listed(sandboxes: Sandboxes, filter: PodSandboxFilter__Output | null): PodSandbox[] {
  if (filter === null) return sandboxes.list({}).map(toPodSandbox)
  const { id, state, label_selector: labels } = filter
  checkText('filter.id', id, 256)
  const views = sandboxes.list({ ...(id === '' ? {} : { id }), labels })
  if (state === null) return views.map(toPodSandbox)
  checkEnum('filter.state.state', state.state, PodSandboxState)
  // Not left to the list: what READY means is decided in one place.
  const wantsReady = state.state === 'SANDBOX_READY'
  return views.filter((view) => isReady(view) === wantsReady).map(toPodSandbox)
}
