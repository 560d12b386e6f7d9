import { toTimestamp } from '../client/timestamp.ts'
import { canonicalJson } from '../core/canonical-json.ts'
import type { ControllerStartResponse } from '../generated/containerd/services/sandbox/v1/ControllerStartResponse.ts'
import type { ControllerStatusResponse } from '../generated/containerd/services/sandbox/v1/ControllerStatusResponse.ts'
import type { SandboxInfo, ServedView } from '../sandbox/types.ts'

/** What front ends compare the state with: exactly these. */
const STATES = { ready: 'SANDBOX_READY', notReady: 'SANDBOX_NOTREADY' } as const

/** @param selinuxLabel of the sandbox's process; `''` is none. */
export function toStartResponse(view: ServedView, selinuxLabel: string): ControllerStartResponse {
  const { metadata, pid, endpoint } = view
  return {
    sandbox_id: metadata.id,
    pid,
    created_at: toTimestamp(metadata.createdAtNs),
    labels: selinuxLabel === '' ? {} : { selinux_label: selinuxLabel },
    address: endpoint?.address ?? '',
    version: endpoint?.version ?? 0,
  }
}

/** `info` is what a verbose answer adds, as one JSON object under the key `info`. */
export function toStatusResponse(view: ServedView, info?: SandboxInfo): ControllerStatusResponse {
  const { metadata, ready, pid, exit, endpoint } = view
  return {
    sandbox_id: metadata.id,
    pid,
    state: ready ? STATES.ready : STATES.notReady,
    created_at: toTimestamp(metadata.createdAtNs),
    ...(exit ? { exited_at: toTimestamp(exit.atNs) } : {}),
    ...(info ? { info: { info: canonicalJson(info) } } : {}),
    address: endpoint?.address ?? '',
    version: endpoint?.version ?? 0,
  }
}

/** The architecture of this node in Go's words (GOARCH), which those of OCI are. */
export function goArchitecture(arch: string): string {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', loong64: 'loong64' }
  return names[arch] ?? arch
}
