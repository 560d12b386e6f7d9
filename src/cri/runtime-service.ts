import type { Logger } from 'pino'
import { CodedError } from '../core/errors.ts'
import type { ListPodSandboxResponse } from '../generated/runtime/v1/ListPodSandboxResponse.ts'
import type { PodSandbox } from '../generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxFilter__Output } from '../generated/runtime/v1/PodSandboxFilter.ts'
import { PodSandboxState } from '../generated/runtime/v1/PodSandboxState.ts'
import type { RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { serverStream, unary } from '../grpc/handler.ts'
import { MAX_MESSAGE_BYTES } from '../grpc/limits.ts'
import type { Sandboxes } from '../sandbox/types.ts'
import { checkEnum, checkText } from './checks.ts'
import { inChunks, maxEncodedBytes } from './list-size.ts'
import type { NodeStatus } from './node-status.ts'
import { nodeHandlers } from './node-handlers.ts'
import { isReady, toPodSandbox, toPodSandboxStatus } from './sandbox-messages.ts'
import { validateRunPodSandbox, validateSandboxId } from './validate.ts'

export interface RuntimeServiceOptions {
  /** The version of the daemon. */
  readonly runtimeVersion: string
}

export interface RuntimeServiceDeps {
  readonly sandboxes: Sandboxes
  readonly node: NodeStatus
  /** The exact size of an encoded list: `responseSerialize` of the contract. */
  readonly encodeList: (response: ListPodSandboxResponse) => { readonly length: number }
  readonly logger: Logger
}

/** The methods of RuntimeService that are there; gRPC answers UNIMPLEMENTED for the others. */
export type RuntimeServiceMethods = Pick<
  RuntimeServiceHandlers,
  | 'Version'
  | 'Status'
  | 'RuntimeConfig'
  | 'UpdateRuntimeConfig'
  | 'RunPodSandbox'
  | 'StopPodSandbox'
  | 'RemovePodSandbox'
  | 'PodSandboxStatus'
  | 'ListPodSandbox'
  | 'StreamPodSandboxes'
>

/** The CRI front: validates, calls, maps. Holds no state. */
export function runtimeService(options: RuntimeServiceOptions, deps: RuntimeServiceDeps): RuntimeServiceMethods {
  return { ...nodeHandlers(options, deps), ...sandboxHandlers(deps), ...listHandlers(deps) }
}

function sandboxHandlers(deps: RuntimeServiceDeps) {
  const { sandboxes, node } = deps
  return {
    RunPodSandbox: unary(async (request, { signal }) => {
      return { pod_sandbox_id: await sandboxes.run(validateRunPodSandbox(request, node.cgroupDriver), signal) }
    }, deps),
    StopPodSandbox: unary(async (request, { signal }) => {
      await sandboxes.stop(validateSandboxId('pod_sandbox_id', request.pod_sandbox_id), signal)
      return {}
    }, deps),
    RemovePodSandbox: unary(async (request, { signal }) => {
      await sandboxes.remove(validateSandboxId('pod_sandbox_id', request.pod_sandbox_id), signal)
      return {}
    }, deps),
    PodSandboxStatus: unary(async (request, { signal }) => {
      const view = sandboxes.get(validateSandboxId('pod_sandbox_id', request.pod_sandbox_id))
      if (!request.verbose) return toPodSandboxStatus(view)
      return toPodSandboxStatus(view, await sandboxes.info(view.metadata.id, signal))
    }, deps),
  } satisfies Partial<RuntimeServiceMethods>
}

function listHandlers(deps: RuntimeServiceDeps) {
  return {
    ListPodSandbox: unary(async ({ filter }) => {
      const response = { items: list(deps.sandboxes, filter) }
      if (maxEncodedBytes(response.items) > MAX_MESSAGE_BYTES) checkSize(deps.encodeList(response).length)
      return response
    }, deps),
    StreamPodSandboxes: serverStream(async function* ({ filter }) {
      for (const chunk of inChunks(list(deps.sandboxes, filter))) yield { pod_sandboxes: chunk }
    }, deps),
  } satisfies Partial<RuntimeServiceMethods>
}

function list(sandboxes: Sandboxes, filter: PodSandboxFilter__Output | null): PodSandbox[] {
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

function checkSize(bytes: number): void {
  if (bytes <= MAX_MESSAGE_BYTES) return
  throw new CodedError(
    'ResourceExhausted',
    `list pod sandboxes: the list takes ${bytes} bytes, a message holds ${MAX_MESSAGE_BYTES}: use StreamPodSandboxes`,
  )
}
