import type { ContainerInfo, ContainerStatus as Status, ContainerView } from '../container/types.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import type { Container } from '../generated/runtime/v1/Container.ts'
import type { ContainerState } from '../generated/runtime/v1/ContainerState.ts'
import type { ContainerStatus } from '../generated/runtime/v1/ContainerStatus.ts'
import type { ContainerStatusResponse } from '../generated/runtime/v1/ContainerStatusResponse.ts'
import type { ImageSpec } from '../generated/runtime/v1/ImageSpec.ts'
import { Signal } from '../generated/runtime/v1/Signal.ts'

/** Stands in for an exit code that nobody knows. */
const UNKNOWN_EXIT_CODE = 255

/** The state as the CRI shows it. One that is not to be trusted is UNKNOWN, whatever its record says. */
export function containerState({ status, quarantined }: ContainerView): keyof typeof ContainerState {
  return `CONTAINER_${quarantined === '' ? status.state : 'UNKNOWN'}`
}

/** A container as lists show it. */
export function toContainer(view: ContainerView): Container {
  const { config, createdAtNs, id, imageId, imageRef, sandboxId } = view.metadata
  return {
    id,
    pod_sandbox_id: sandboxId,
    metadata: config.metadata,
    image: toImageSpec(view),
    image_ref: imageRef,
    image_id: imageId,
    state: containerState(view),
    created_at: createdAtNs.toString(),
    labels: config.labels,
    annotations: config.annotations,
  }
}

/** A container as ContainerStatus and events show it; what the caller configured is given back as it came. */
export function toContainerStatus(view: ContainerView): ContainerStatus {
  const { config, createdAtNs, id, imageId, imageRef, logPath, stopSignal } = view.metadata
  const { startedAtNs, exit, user, resources } = view.status
  return {
    id,
    metadata: config.metadata,
    state: containerState(view),
    created_at: createdAtNs.toString(),
    started_at: startedAtNs.toString(),
    finished_at: (exit?.atNs ?? 0n).toString(),
    ...toOutcome(view),
    image: toImageSpec(view),
    image_ref: imageRef,
    image_id: imageId,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts,
    log_path: logPath,
    resources: resources === null ? null : { linux: resources },
    user:
      user === null ? null : { linux: { uid: user.uid, gid: user.gid, supplemental_groups: [...user.additionalGids] } },
    stop_signal: toSignal(stopSignal),
  }
}

/** The whole answer. `info` is what a verbose one adds, as one JSON object under the key `info`. */
export function toContainerStatusResponse(view: ContainerView, info?: ContainerInfo): ContainerStatusResponse {
  return {
    status: toContainerStatus(view),
    ...(info === undefined ? {} : { info: { info: canonicalJson(info) } }),
  }
}

/** The image as the pod's author wrote it, which is what people look for; the kubelet itself asks by id. */
function toImageSpec({ metadata }: ContainerView): ImageSpec {
  const image = metadata.config.image
  return { ...image, image: image?.user_specified_image || image?.image || '' }
}

function toOutcome(view: ContainerView): Pick<ContainerStatus, 'exit_code' | 'reason' | 'message'> {
  const message = view.status.message || view.quarantined
  switch (containerState(view)) {
    case 'CONTAINER_EXITED': {
      const exitCode = view.status.exit?.code ?? UNKNOWN_EXIT_CODE
      return { exit_code: exitCode, reason: exitReason(view.status), message }
    }
    case 'CONTAINER_UNKNOWN':
      return { exit_code: UNKNOWN_EXIT_CODE, reason: 'Unknown', message }
    default:
      return { exit_code: 0, reason: '', message }
  }
}

/** What the kubelet shows as the reason of a terminated container. */
function exitReason({ exit, message, oomKilled, startedAtNs }: Status): string {
  if (oomKilled) return 'OOMKilled'
  if (startedAtNs === 0n && message !== '') return 'StartError'
  if (exit === null) return 'Unknown'
  if (exit.reason !== 'Exited') return exit.reason
  return exit.code === 0 ? 'Completed' : 'Error'
}

/** `SIGRTMIN+3` is `SIGNAL_SIGRTMINPLUS3`; one that the CRI has no name for is not shown. */
function toSignal(name: string): keyof typeof Signal {
  const signal = `SIGNAL_${name.replace('+', 'PLUS').replace('-', 'MINUS')}`
  return isSignal(signal) ? signal : 'SIGNAL_RUNTIME_DEFAULT'
}

function isSignal(name: string): name is keyof typeof Signal {
  return Object.hasOwn(Signal, name)
}
