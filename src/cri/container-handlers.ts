import type { Containers, ExecResult } from '../container/types.ts'
import type { Container } from '../generated/runtime/v1/Container.ts'
import type { ContainerFilter__Output } from '../generated/runtime/v1/ContainerFilter.ts'
import { ContainerState } from '../generated/runtime/v1/ContainerState.ts'
import type { ExecSyncResponse } from '../generated/runtime/v1/ExecSyncResponse.ts'
import type { RuntimeServiceDefinition, RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { type HandlerDeps, serverStream, unary } from '../grpc/handler.ts'
import { MAX_MESSAGE_BYTES } from '../grpc/limits.ts'
import type { Sandboxes } from '../sandbox/types.ts'
import { checkEnum, checkText, validateId } from './checks.ts'
import { containerState, toContainer, toContainerStatusResponse } from './container-messages.ts'
import type { ContainerEvents } from './events.ts'
import { listHandlers } from './list-handlers.ts'
import { checkSamePod, validateExecSync, validateTimeoutMs, validateUpdate } from './validate-calls.ts'
import { validateCreateContainer } from './validate-container.ts'

/** What the answer to ExecSync takes beside its streams is less. */
const EXEC_OVERHEAD_BYTES = 64

export interface ContainerHandlerDeps extends HandlerDeps {
  readonly containers: Containers
  readonly sandboxes: Pick<Sandboxes, 'get'>
  readonly events: Pick<ContainerEvents, 'subscribe'>
  /** The contract, for the exact sizes of lists. */
  readonly wire: Pick<RuntimeServiceDefinition, 'ListContainers'>
}

/** The methods that concern containers, but for their statistics. */
export function containerHandlers(deps: ContainerHandlerDeps) {
  return { ...lifecycleHandlers(deps), ...operationHandlers(deps), ...viewHandlers(deps) }
}

function lifecycleHandlers(deps: ContainerHandlerDeps) {
  const { containers, sandboxes } = deps
  return {
    CreateContainer: unary(async (request, { signal }) => {
      const { sandboxId, config } = validateCreateContainer(request)
      const { metadata } = sandboxes.get(sandboxId)
      checkSamePod(request.sandbox_config?.metadata ?? null, metadata.config.metadata)
      return { container_id: await containers.create({ sandboxId: metadata.id, config }, signal) }
    }, deps),
    StartContainer: unary(async (request, { signal }) => {
      await containers.start(validateId('container_id', request.container_id), signal)
      return {}
    }, deps),
    StopContainer: unary(async (request, { signal }) => {
      const id = validateId('container_id', request.container_id)
      await containers.stop(id, validateTimeoutMs('timeout', request.timeout), signal)
      return {}
    }, deps),
    RemoveContainer: unary(async (request, { signal }) => {
      await containers.remove(validateId('container_id', request.container_id), signal)
      return {}
    }, deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

function operationHandlers(deps: ContainerHandlerDeps) {
  const { containers } = deps
  return {
    ExecSync: unary(async (request, { signal }) => {
      const id = validateId('container_id', request.container_id)
      return toExecSync(await containers.execSync(id, validateExecSync(request), signal))
    }, deps),
    UpdateContainerResources: unary(async (request, { signal }) => {
      const id = validateId('container_id', request.container_id)
      await containers.updateResources(id, validateUpdate(request), signal)
      return {}
    }, deps),
    ReopenContainerLog: unary(async (request, { signal }) => {
      await containers.reopenLog(validateId('container_id', request.container_id), signal)
      return {}
    }, deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

function viewHandlers(deps: ContainerHandlerDeps) {
  const { containers, events, wire } = deps
  const { list, stream } = listHandlers(
    {
      what: 'containers',
      streamName: 'StreamContainers',
      items: async ({ filter }: { filter: ContainerFilter__Output | null }) => listed(containers, filter),
      toList: (items) => ({ containers: items }),
      toPart: (items) => ({ containers: items }),
      encode: wire.ListContainers.responseSerialize,
    },
    deps,
  )
  return {
    ListContainers: list,
    StreamContainers: stream,
    ContainerStatus: unary(async (request, { signal }) => {
      const view = containers.get(validateId('container_id', request.container_id))
      if (!request.verbose) return toContainerStatusResponse(view)
      return toContainerStatusResponse(view, await containers.info(view.metadata.id, signal))
    }, deps),
    GetContainerEvents: serverStream((_request, call) => events.subscribe(call), deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

function listed(containers: Containers, filter: ContainerFilter__Output | null): Container[] {
  if (filter === null) return containers.list({}).map(toContainer)
  const { id, state, pod_sandbox_id: sandboxId, label_selector: labels } = filter
  checkText('filter.id', id, 256)
  checkText('filter.pod_sandbox_id', sandboxId, 256)
  const views = containers.list({ ...(id === '' ? {} : { id }), ...(sandboxId === '' ? {} : { sandboxId }), labels })
  if (state === null) return views.map(toContainer)
  checkEnum('filter.state.state', state.state, ContainerState)
  // Not left to the list: what the CRI calls UNKNOWN is decided in one place.
  return views.filter((view) => containerState(view) === state.state).map(toContainer)
}

/** Both streams may be as large as a message: each is sure of half of it, and of what the other leaves. */
function toExecSync({ exitCode, stdout, stderr }: ExecResult): ExecSyncResponse {
  const room = MAX_MESSAGE_BYTES - EXEC_OVERHEAD_BYTES
  const stdoutBytes = Math.min(stdout.length, Math.max(room / 2, room - stderr.length))
  return {
    exit_code: exitCode,
    stdout: stdout.subarray(0, stdoutBytes),
    stderr: stderr.subarray(0, room - stdoutBytes),
  }
}
