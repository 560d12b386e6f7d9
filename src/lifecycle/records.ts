import { readdirSync } from 'node:fs'
import { errnoOf } from '../core/errors.ts'
import type { Sealer } from '../core/seal.ts'
import { type LedgerEntry, readEntry } from '../store/ledger.ts'
import type { LedgerRow } from '../store/rows.ts'

/** Where entries come from that are not in the ledger, or not as we wrote them. Asked only when it is needed. */
export interface OtherSource {
  readonly bootId: string
  /** In the order in which the ledger was told. */
  readonly resources: readonly { readonly kind: string; readonly record: unknown }[]
}

/** The ids of those who have a directory in this one. Synchronous, for the start. */
export function ownerIds(parent: string): string[] {
  try {
    return readdirSync(parent).filter((name) => /^[0-9a-f]{64}$/.test(name))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

/**
 * What an owner owns, by the ledger where its rows are sealed, and by another source where they are not, or are missing:
 * releasing what is gone does no harm.
 * @param problems gets what does not hold.
 */
export function ownedEntries(
  ownerId: string,
  rows: readonly LedgerRow[],
  other: () => OtherSource,
  problems: string[],
  sealer: Sealer,
): LedgerEntry[] {
  const read = rows.map((row) => readEntry(sealer, row))
  const trusted = read.filter((entry) => entry.trusted).map(({ entry }) => entry)
  for (const { entry } of read.filter((candidate) => !candidate.trusted)) {
    problems.push(`row of ledger ${entry.seq} (${entry.kind}): its seal does not match`)
  }
  if (rows.length > 0 && trusted.length === rows.length) return trusted
  const known = new Set(trusted.map(({ seq }) => seq))
  const { bootId, resources } = other()
  const added = resources.map(({ kind, record }, seq) => ({
    ownerId,
    seq,
    kind,
    state: 'held' as const,
    record,
    bootId,
  }))
  return [...trusted, ...added.filter(({ seq }) => !known.has(seq))].toSorted((a, b) => a.seq - b.seq)
}
