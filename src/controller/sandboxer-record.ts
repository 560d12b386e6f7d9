import { canonicalJson } from '../core/canonical-json.ts'
import { CodedError } from '../core/errors.ts'

/** What runs a sandbox at the peer, as `sandbox.runtime` says it. */
export interface SandboxRuntime {
  /** e.g. `io.containerd.kata.v2`. Never empty: servers written in Go take it for given. */
  readonly name: string
  /** Base64 of the protobuf in `value`. */
  readonly options: { readonly typeUrl: string; readonly value: string } | null
}

/** What only a peer can tell of a sandbox, and only after its start. */
export interface StartedSandbox {
  /** Of the Task service, e.g. `ttrpc+unix:///path`; `''` before the start, and where there is none. */
  readonly taskAddress: string
  /** Of the Task service. */
  readonly version: number
  /** Whose namespaces containers join; 0 before the start, and where the sandboxer does not want it known. */
  readonly pid: number
}

/** A sandbox at a remote sandboxer. */
export interface SandboxerRecord extends StartedSandbox, Readonly<Record<string, unknown>> {
  readonly sandboxer: string
  /** Where the sandboxer was when it got this sandbox. */
  readonly address: string
  readonly id: string
  readonly runtime: SandboxRuntime
  /** `<pod>_<namespace>_<uid>_<attempt>` */
  readonly podName: string
  /** Nanoseconds since the epoch, in decimal. */
  readonly createdAtNs: string
}

/**
 * Fills in what older versions did not note, and had no need of.
 * @throws CodedError `DataLoss` for a record that is not one of this sandboxer.
 */
export function parseSandboxerRecord(sandboxer: string, record: unknown): SandboxerRecord {
  const notNoted = { pid: 0, runtime: { name: sandboxer, options: null }, podName: '', createdAtNs: '0' }
  const filled = { ...notNoted, ...(record as Partial<SandboxerRecord> | null) }
  if (isRecord(filled) && filled.sandboxer === sandboxer) return filled
  throw new CodedError('DataLoss', `record of sandboxer ${sandboxer}: ${canonicalJson(record ?? null)} is not its own`)
}

function isRecord(record: Partial<SandboxerRecord>): record is SandboxerRecord {
  const { id, taskAddress, version, pid, runtime, podName, createdAtNs, address } = record
  return (
    typeof address === 'string' &&
    /^[0-9a-f]{64}$/.test(id ?? '') &&
    typeof taskAddress === 'string' &&
    isCount(version) &&
    isCount(pid) &&
    typeof podName === 'string' &&
    /^\d+$/.test(createdAtNs ?? '') &&
    isRuntime(runtime)
  )
}

function isRuntime(runtime: Partial<SandboxRuntime> | undefined): boolean {
  const { name, options } = runtime ?? {}
  if (typeof name !== 'string' || name === '') return false
  return options === null || (typeof options?.typeUrl === 'string' && typeof options.value === 'string')
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0
}
