import { nowNs } from '../core/now.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ControllerCreateRequest } from '../generated/containerd/services/sandbox/v1/ControllerCreateRequest.ts'
import type { Timestamp, Timestamp__Output } from '../generated/google/protobuf/Timestamp.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import type { SandboxSpec } from './controller.ts'

/** How containerd names the configuration of a pod in an Any: without the usual prefix. */
const CONFIG_TYPE = 'runtime.v1.PodSandboxConfig'
/** Where sandboxers made for containerd look for the pod's addresses. */
const METADATA_TYPE = 'github.com/containerd/cri/pkg/store/sandbox/Metadata'

const NS_PER_S = 1_000_000_000n

/** What a remote sandboxer is told to make, in the form in which containerd 2.x tells it. */
export function createRequest(
  spec: SandboxSpec,
  encodeConfig: (config: PodSandboxConfig) => Buffer,
  nowNs: bigint,
): ControllerCreateRequest & { sandbox_id: string } {
  const { name, namespace, uid, attempt } = spec.config.metadata ?? { name: '', namespace: '', uid: '', attempt: 0 }
  const now = toTimestamp(nowNs)
  return {
    sandbox_id: spec.id,
    options: { type_url: CONFIG_TYPE, value: encodeConfig(spec.config) },
    netns_path: spec.netnsPath,
    annotations: spec.config.annotations,
    sandbox: {
      sandbox_id: spec.id,
      // Never empty: servers written in Go take it for given.
      runtime: { name: spec.runtimeHandler },
      labels: { name: [name, namespace, uid, attempt].join('_') },
      created_at: now,
      updated_at: now,
      extensions: { metadata: { type_url: METADATA_TYPE, value: criMetadata(spec) } },
      sandboxer: spec.sandboxer,
    },
  }
}

/** The part of containerd's record that `options` does not hold already. Its keys are those of the Go struct. */
function criMetadata(spec: SandboxSpec): Buffer {
  const { name, namespace, uid, attempt } = spec.config.metadata ?? { name: '', namespace: '', uid: '', attempt: 0 }
  const [ip = '', ...additional] = spec.ips ?? []
  const metadata = {
    ID: spec.id,
    Name: [name, namespace, uid, attempt].join('_'),
    NetNSPath: spec.netnsPath,
    IP: ip,
    AdditionalIPs: additional,
    RuntimeHandler: spec.runtimeHandler,
  }
  return Buffer.from(JSON.stringify({ Version: 'v1', Metadata: metadata }))
}

export function toTimestamp(ns: bigint): Timestamp {
  return { seconds: (ns / NS_PER_S).toString(), nanos: Number(ns % NS_PER_S) }
}

/** Nanoseconds since the epoch; undefined for none, and for 0, which is how an unset time comes over the wire. */
export function fromTimestamp(timestamp: Timestamp__Output | null): bigint | undefined {
  const ns = timestamp ? BigInt(timestamp.seconds) * NS_PER_S + BigInt(timestamp.nanos) : 0n
  return ns > 0n ? ns : undefined
}

/** An exit as the peer has seen it. */
export function observedExit(exitStatus: number, exitedAt: Timestamp__Output | null): ExitStatus {
  // Go servers send a large number for a status that they do not know.
  if (exitStatus > 255) return unknownExit(fromTimestamp(exitedAt))
  return { code: exitStatus, atNs: fromTimestamp(exitedAt) ?? nowNs(), reason: 'Exited' }
}

/** Stands in for an exit status that nobody can tell any more. */
export function unknownExit(atNs: bigint = nowNs()): ExitStatus {
  return { code: 255, atNs, reason: 'Unknown' }
}
