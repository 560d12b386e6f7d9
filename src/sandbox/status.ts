import { canonicalJson } from '../core/canonical-json.ts'
import type { ExitStatus } from '../executor/types.ts'
import type { ProcessIdentity } from '../host/process.ts'
import type { CniResult } from '../cni/result.ts'
import type { StepTiming } from '../lifecycle/steps.ts'
import type {
  PodResources,
  PodSandboxConfig,
  SandboxMetadata,
  SandboxState,
  ServedOrigin,
  ServedPhase,
} from './types.ts'

/** What changes in the life of a sandbox. It is changed as a whole, and only by {@link Sandbox.save}. */
export interface SandboxStatus {
  readonly state: SandboxState
  /** Whether the front ends may see it: not before RunPodSandbox has ended, so that it is not taken for a dead one. */
  readonly visible: boolean
  readonly process: ProcessIdentity | null
  readonly exit: ExitStatus | null
  readonly steps: readonly StepTiming[]
  /** What UpdatePodSandboxResources said last; absent before the first. */
  readonly resources?: PodResources
  /** Only of those that are served. */
  readonly phase?: ServedPhase
  /** What the front end of a served one said of its resources last. */
  readonly told?: unknown
  /** Why RunPodSandbox failed, for a sandbox of which that could not be taken back whole; `''` otherwise. */
  readonly failure: string
}

/** The result of one network attachment. */
export interface NetworkSetting {
  readonly network: string
  readonly ifName: string
  readonly result: CniResult
}

/** The data of a sandbox's checkpoint: enough to name, stop and remove it without the database. */
export interface CheckpointData {
  /** As {@link encodeMetadata} writes it. */
  readonly metadata: unknown
  /** The boot in which it was made. */
  readonly bootId: string
  /** What the ledger was told, in that order. */
  readonly resources: readonly { readonly kind: string; readonly record: unknown }[]
}

/** What the second source of a sandbox's network settings is sealed for. */
export function networkSubject(sandboxId: string): string {
  return `network of ${sandboxId}`
}

/** What the database keeps of a status beside its state. */
export function encodeStatus(status: SandboxStatus): string {
  return canonicalJson({ ...status, state: undefined })
}

/** @throws Error when the text is not what {@link encodeStatus} wrote. */
export function decodeStatus(state: SandboxState, text: string): SandboxStatus {
  const { exit, ...rest } = JSON.parse(text) as Omit<SandboxStatus, 'state' | 'exit'> & {
    exit: (Omit<ExitStatus, 'atNs'> & { atNs: string }) | null
  }
  return { ...rest, state, exit: exit && { ...exit, atNs: BigInt(exit.atNs) } }
}

export function encodeMetadata(metadata: SandboxMetadata): string {
  return canonicalJson(metadata)
}

/** @throws Error when the value does not hold the identity of a sandbox. */
export function decodeMetadata(value: unknown): SandboxMetadata {
  const given = (value ?? {}) as Record<keyof SandboxMetadata, unknown>
  const text = (key: keyof SandboxMetadata): string => {
    const member = given[key]
    if (typeof member !== 'string') throw new TypeError(`metadata: ${key} is not a string`)
    return member
  }
  const config = given.config as PodSandboxConfig | null | undefined
  if (!config?.metadata?.name || !config.metadata.uid) throw new TypeError('metadata: config has no name or uid')
  const id = text('id')
  if (!/^[0-9a-f]{64}$/.test(id)) throw new TypeError('metadata: id is not 64 hex characters')
  return {
    id,
    name: text('name'),
    config,
    runtimeHandler: text('runtimeHandler'),
    sandboxer: text('sandboxer'),
    netMode: text('netMode') === 'host' ? 'host' : 'cni',
    netnsPath: text('netnsPath'),
    createdAtNs: BigInt(text('createdAtNs')),
    ...(given.served ? { served: given.served as ServedOrigin } : {}),
  }
}
