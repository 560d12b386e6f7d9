import { toTimestamp } from '../client/timestamp.ts'
import { CodedError, invalidField } from '../core/errors.ts'
import { nowNs } from '../core/now.ts'
import type { ControllerHandlers } from '../generated/containerd/services/sandbox/v1/Controller.ts'
import type { ControllerUpdateRequest__Output } from '../generated/containerd/services/sandbox/v1/ControllerUpdateRequest.ts'
import type { Any } from '../generated/google/protobuf/Any.ts'
import type { PodSandboxConfig__Output } from '../generated/runtime/v1/PodSandboxConfig.ts'
import { type HandlerDeps, unary } from '../grpc/handler.ts'
import type { ServedSandboxes } from '../sandbox/types.ts'
import { type CreateDeps, type CreateOptions, servedRequest } from './create-request.ts'
import { goArchitecture, toStartResponse, toStatusResponse } from './messages.ts'
import type { Waits } from './waits.ts'

export type ControllerServiceOptions = CreateOptions

export interface ControllerServiceDeps extends CreateDeps, HandlerDeps {
  readonly sandboxes: ServedSandboxes
  /** What the containers of a sandbox are labelled with; `''` is nothing. */
  readonly selinuxLabel: (config: PodSandboxConfig__Output) => string
  /** What a sandbox uses. @throws CodedError `NotFound`; `Unavailable` when it cannot be told. */
  readonly metrics: (id: string, signal: AbortSignal) => Promise<Any>
  readonly waits: Waits
}

/** Where containerd clients say whose a sandbox is. */
const NAMESPACE_HEADER = 'containerd-namespace'
const DEFAULT_NAMESPACE = 'k8s.io'
/** What containerd keeps the resources of a pod under that was resized. */
const RESOURCES_EXTENSION = 'updated-resources'
/** Ids that nobody has are looked for as well as others; no longer ones. */
const MAX_ID_BYTES = 256

/**
 * The sandbox Controller of containerd's API: validates, calls, maps. Holds no state. It is as tolerant as its clients need:
 * none names its sandboxer in every call, Stop and Shutdown of what is not there succeed (an iSulad takes an error for a pod
 * that cannot be removed), and Platform answers for any id (an iSulad asks it whether we are there).
 */
export function controllerService(options: ControllerServiceOptions, deps: ControllerServiceDeps) {
  return { ...lifeHandlers(options, deps), ...lookHandlers(deps) } satisfies Partial<ControllerHandlers>
}

function lifeHandlers(options: ControllerServiceOptions, deps: ControllerServiceDeps) {
  const { sandboxes } = deps
  return {
    Create: unary(async (request, { signal, header }) => {
      const namespace = header(NAMESPACE_HEADER) || DEFAULT_NAMESPACE
      await sandboxes.create(servedRequest(request, checkNamespace(namespace), options, deps), signal)
      return { sandbox_id: request.sandbox_id }
    }, deps),
    Start: unary(async ({ sandbox_id: id }, { signal }) => {
      const view = await sandboxes.start(checkId(id), signal)
      return toStartResponse(view, deps.selinuxLabel(view.metadata.config))
    }, deps),
    Stop: unary(async ({ sandbox_id: id, timeout_secs: seconds }, { signal }) => {
      await sandboxes.stop(checkId(id), seconds === 0 ? null : seconds * 1000, signal)
      return {}
    }, deps),
    Shutdown: unary(async ({ sandbox_id: id }, { signal }) => {
      await sandboxes.shutdown(checkId(id), signal)
      return {}
    }, deps),
    Update: unary(async (request, { signal }) => {
      await sandboxes.update(checkId(request.sandbox_id), toldResources(request), signal)
      return {}
    }, deps),
  } satisfies Partial<ControllerHandlers>
}

function lookHandlers(deps: ControllerServiceDeps) {
  const { sandboxes, waits } = deps
  return {
    Platform: unary(async () => {
      return { platform: { os: 'linux', architecture: goArchitecture(process.arch), variant: '' } }
    }, deps),
    Wait: unary(async ({ sandbox_id: id }, call) => {
      const exit = await waits.run(call, async () => sandboxes.wait(checkId(id), call.signal))
      return { exit_status: exit.code, exited_at: toTimestamp(exit.atNs) }
    }, deps),
    Status: unary(async ({ sandbox_id: id, verbose }, { signal }) => {
      const view = await sandboxes.status(checkId(id), signal)
      return toStatusResponse(view, verbose ? await sandboxes.info(id, signal) : undefined)
    }, deps),
    Metrics: unary(async ({ sandbox_id: id }, { signal }) => {
      const data = await deps.metrics(checkId(id), signal)
      return { metrics: { timestamp: toTimestamp(nowNs()), id, data } }
    }, deps),
  } satisfies Partial<ControllerHandlers>
}

function checkId(id: string): string {
  if (id === '') throw invalidField('sandbox_id', 'must not be empty')
  if (Buffer.byteLength(id) > MAX_ID_BYTES) throw invalidField('sandbox_id', `longer than ${MAX_ID_BYTES} bytes`)
  return id
}

function checkNamespace(namespace: string): string {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,75})$/.test(namespace)) return namespace
  throw new CodedError('InvalidArgument', `${NAMESPACE_HEADER}: not the name of a namespace`)
}

/**
 * The resources that the pod was resized to, as containerd tells them; undefined when it tells none. What is announced of
 * tasks (`extensions.tasks`) and anything else is taken note of by letting it pass: a shim needs nothing of it.
 */
function toldResources({ sandbox }: ControllerUpdateRequest__Output): unknown {
  const extension = sandbox?.extensions[RESOURCES_EXTENSION]
  if (!extension) return undefined
  try {
    return JSON.parse(Buffer.from(extension.value).toString('utf8')) as unknown
  } catch {
    throw invalidField(`sandbox.extensions[${RESOURCES_EXTENSION}]`, 'is not JSON')
  }
}
