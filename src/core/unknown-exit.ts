import { nowNs } from './now.ts'

/** Stands in for an exit status that nobody could observe, or can tell any more. */
export function unknownExit(atNs: bigint = nowNs()): {
  readonly code: number
  readonly atNs: bigint
  readonly reason: 'Unknown'
} {
  return { code: 255, atNs, reason: 'Unknown' }
}
