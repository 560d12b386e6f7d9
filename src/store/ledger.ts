import { canonicalJson } from '../core/canonical-json.ts'
import type { Sealer } from '../core/seal.ts'
import type { Change, LedgerRow, Loaded } from './rows.ts'

/**
 * intended: may or may not be there. held: is there, as far as we know. releasing: its release has begun and is not
 * confirmed, so it is still owed.
 */
export type LedgerState = 'intended' | 'held' | 'releasing'

/** One resource of one sandbox or container. */
export interface LedgerEntry {
  readonly ownerId: string
  readonly seq: number
  readonly kind: string
  readonly state: LedgerState
  readonly record: unknown
  readonly bootId: string
  /** Why this daemon could not release it when it tried last. It is not stored: the next daemon finds out by itself. */
  readonly problem?: string
}

/** The change that writes an entry, as it must be before the resource is acquired. */
export function putEntry(sealer: Sealer, entry: LedgerEntry): Change {
  const row = {
    owner_id: entry.ownerId,
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
  return { op: 'deleteLedger', ownerId: entry.ownerId, seq: entry.seq }
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
    entry: { ownerId: row.owner_id, seq: row.seq, kind: row.kind, state, record, bootId: row.boot_id },
    trusted: sealer.isSealed(row.seal, ...sealedParts(row)),
  }
}

function sealedParts(row: Omit<LedgerRow, 'seal'>): string[] {
  return ['ledger', row.owner_id, String(row.seq), row.kind, row.state, row.record, row.boot_id]
}

/** The entries of what an owner is about to make, in the order of making. */
export function intents(
  records: readonly { readonly kind: string; readonly record: unknown }[],
  ownerId: string,
  bootId: string,
): LedgerEntry[] {
  return records.map(({ kind, record }, seq) => ({ ownerId, seq, kind, state: 'intended', record, bootId }))
}

/** The kind of resource that only containers own: it tells whose an entry is when its owner's row is lost. */
export const CONTAINER_KIND = 'container'

/** The rows of the ledger by owner. */
export function splitLedger(loaded: Pick<Loaded, 'containers' | 'ledger'>): {
  readonly ofSandboxes: ReadonlyMap<string, readonly LedgerRow[]>
  readonly ofContainers: ReadonlyMap<string, readonly LedgerRow[]>
} {
  const byOwner = new Map<string, LedgerRow[]>()
  for (const row of loaded.ledger) {
    const rows = byOwner.get(row.owner_id)
    if (rows) rows.push(row)
    else byOwner.set(row.owner_id, [row])
  }
  const containers = new Set(loaded.containers.map(({ id }) => id))
  const isContainer = ([id, rows]: [string, LedgerRow[]]): boolean =>
    containers.has(id) || rows.some(({ kind }) => kind === CONTAINER_KIND)
  const all = [...byOwner]
  return {
    ofSandboxes: new Map(all.filter((entry) => !isContainer(entry))),
    ofContainers: new Map(all.filter(isContainer)),
  }
}
