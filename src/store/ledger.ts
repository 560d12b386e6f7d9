import { canonicalJson } from '../core/canonical-json.ts'
import type { Sealer } from '../core/seal.ts'
import type { Change, LedgerRow } from './rows.ts'

/**
 * intended: may or may not be there. held: is there, as far as we know. releasing: its release has begun and is not
 * confirmed, so it is still owed.
 */
export type LedgerState = 'intended' | 'held' | 'releasing'

/** One resource of one sandbox. */
export interface LedgerEntry {
  readonly sandboxId: string
  readonly seq: number
  readonly kind: string
  readonly state: LedgerState
  readonly record: unknown
  readonly bootId: string
}

/** The change that writes an entry, as it must be before the resource is acquired. */
export function putEntry(sealer: Sealer, entry: LedgerEntry): Change {
  const row = {
    sandbox_id: entry.sandboxId,
    seq: entry.seq,
    kind: entry.kind,
    state: entry.state,
    record: canonicalJson(entry.record),
    boot_id: entry.bootId,
  }
  return { op: 'putLedger', row: { ...row, seal: sealer.seal(...sealedParts(row)) } }
}

/** The change that strikes an entry out, once the release of its resource is confirmed. */
export function strikeEntry(entry: LedgerEntry): Change {
  return { op: 'deleteLedger', sandboxId: entry.sandboxId, seq: entry.seq }
}

/** Reads an entry back. `trusted` is false when the row is not as we wrote it; its record may then be anything. */
export function readEntry(sealer: Sealer, row: LedgerRow): { entry: LedgerEntry; trusted: boolean } {
  let record: unknown
  try {
    record = JSON.parse(row.record)
  } catch {
    record = null
  }
  const state = row.state === 'held' || row.state === 'releasing' ? row.state : 'intended'
  return {
    entry: { sandboxId: row.sandbox_id, seq: row.seq, kind: row.kind, state, record, bootId: row.boot_id },
    trusted: sealer.isSealed(row.seal, ...sealedParts(row)),
  }
}

function sealedParts(row: Omit<LedgerRow, 'seal'>): string[] {
  return ['ledger', row.sandbox_id, String(row.seq), row.kind, row.state, row.record, row.boot_id]
}
