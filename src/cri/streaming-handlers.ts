import type { Containers, ContainerView } from '../container/types.ts'
import { CodedError } from '../core/errors.ts'
import type { StreamedExecRequest, StreamsWanted } from '../executor/types.ts'
import type { RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { type HandlerDeps, unary } from '../grpc/handler.ts'
import type { Sandboxes } from '../sandbox/types.ts'
import { validateId } from './checks.ts'
import { containerState } from './container-messages.ts'
import { isReady } from './sandbox-messages.ts'
import { validateExec, validatePorts, validateStreams } from './validate-streaming.ts'

/** Makes URLs, each good for one session. @throws CodedError `ResourceExhausted` when too many wait for their client. */
export interface StreamUrls {
  execUrl(containerId: string, request: StreamedExecRequest): string
  /** `terminal` says whether the client will tell the size of its own. */
  attachUrl(containerId: string, request: StreamsWanted & { readonly terminal: boolean }): string
  portForwardUrl(sandboxId: string, ports: readonly number[]): string
}

export interface StreamingHandlerDeps extends HandlerDeps {
  readonly containers: Pick<Containers, 'get'>
  readonly sandboxes: Pick<Sandboxes, 'get'>
  readonly streamUrls: StreamUrls
}

/** The methods that answer with the URL of a streaming session. */
export function streamingHandlers(deps: StreamingHandlerDeps) {
  const { containers, sandboxes, streamUrls } = deps
  return {
    Exec: unary(async (request) => {
      const id = validateId('container_id', request.container_id)
      const exec = validateExec(request)
      const { metadata } = running(containers.get(id), 'run a command in')
      return { url: streamUrls.execUrl(metadata.id, exec) }
    }, deps),
    Attach: unary(async (request) => {
      const id = validateId('container_id', request.container_id)
      validateStreams(request)
      const { stdin, stdout, stderr, tty } = request
      const { metadata } = running(containers.get(id), 'attach to')
      // What the container was made with decides: on a terminal there is nothing but stdout.
      const hasTerminal = metadata.config.tty
      const wanted = { stdin, stdout, stderr: stderr && !hasTerminal, terminal: tty && hasTerminal }
      return { url: streamUrls.attachUrl(metadata.id, wanted) }
    }, deps),
    PortForward: unary(async (request) => {
      const id = validateId('pod_sandbox_id', request.pod_sandbox_id)
      const ports = validatePorts('port', request.port)
      const view = sandboxes.get(id)
      if (!isReady(view)) {
        throw new CodedError('FailedPrecondition', `forward ports to pod sandbox ${view.metadata.id}: it is not ready`)
      }
      return { url: streamUrls.portForwardUrl(view.metadata.id, ports) }
    }, deps),
  } satisfies Partial<RuntimeServiceHandlers>
}

/** @throws CodedError `FailedPrecondition` when it does not run. */
function running(view: ContainerView, what: string): ContainerView {
  const state = containerState(view)
  if (state === 'CONTAINER_RUNNING') return view
  throw new CodedError('FailedPrecondition', `${what} container ${view.metadata.id}: it is ${state}`)
}
