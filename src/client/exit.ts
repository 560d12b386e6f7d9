import { nowNs } from '../core/now.ts'
import { unknownExit } from '../core/unknown-exit.ts'
import type { Timestamp__Output } from '../generated/google/protobuf/Timestamp.ts'
import { fromTimestamp } from './timestamp.ts'

/** How a process ended, as a peer has seen it: a sandboxer, or a Task service. */
export function observedExit(
  exitStatus: number,
  exitedAt: Timestamp__Output | null,
): { readonly code: number; readonly atNs: bigint; readonly reason: 'Exited' | 'Unknown' } {
  const atNs = fromTimestamp(exitedAt)
  // Go servers send a large number for a status that they do not know.
  if (exitStatus > 255) return unknownExit(atNs)
  return { code: exitStatus, atNs: atNs ?? nowNs(), reason: 'Exited' }
}
