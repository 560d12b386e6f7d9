import type { ContainerView } from '../container/types.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import { nowNs } from '../core/now.ts'
import type { PodSandbox } from '../generated/runtime/v1/PodSandbox.ts'
import type { PodSandboxStatus } from '../generated/runtime/v1/PodSandboxStatus.ts'
import type { PodSandboxStatusResponse } from '../generated/runtime/v1/PodSandboxStatusResponse.ts'
import type { SandboxInfo, SandboxView } from '../sandbox/types.ts'
import { toContainerStatus } from './container-messages.ts'

/** READY means: it runs, and what we know of it can be trusted. */
export function isReady(view: SandboxView): boolean {
  return view.state === 'RUNNING' && view.quarantined === ''
}

/** A sandbox as lists show it. */
export function toPodSandbox(view: SandboxView): PodSandbox {
  const { config, createdAtNs, id, runtimeHandler } = view.metadata
  return {
    id,
    metadata: config.metadata,
    state: isReady(view) ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY',
    created_at: createdAtNs.toString(),
    labels: config.labels,
    annotations: config.annotations,
    runtime_handler: runtimeHandler,
  }
}

/** A sandbox as PodSandboxStatus and events show it. */
export function toSandboxStatus(view: SandboxView): PodSandboxStatus {
  const [ip = '', ...additional] = view.ips
  return {
    ...toPodSandbox(view),
    network: { ip, additional_ips: additional.map((other) => ({ ip: other })) },
    linux: { namespaces: { options: view.metadata.config.linux?.security_context?.namespace_options ?? null } },
  }
}

/**
 * The whole answer, with all containers of the sandbox as they are now. `info` is what a verbose one adds, as one JSON
 * object under the key `info`; why a sandbox is quarantined is told there only.
 */
export function toPodSandboxStatus(
  view: SandboxView,
  containers: readonly ContainerView[],
  info?: SandboxInfo,
): PodSandboxStatusResponse {
  return {
    status: toSandboxStatus(view),
    containers_statuses: containers.map(toContainerStatus),
    timestamp: nowNs().toString(),
    ...(info === undefined ? {} : { info: { info: canonicalJson(withQuarantine(view, info)) } }),
  }
}

function withQuarantine(view: SandboxView, info: SandboxInfo): SandboxInfo {
  return view.quarantined === '' ? info : { ...info, quarantined: view.quarantined }
}
