import type { LedgerLine } from '../admin/api.ts'
import { shortId } from './format.ts'
import type { Output } from './output.ts'
import { styled } from './style.ts'

const COLUMNS = [
  { title: 'OWNER' },
  { title: '#', right: true },
  { title: 'KIND' },
  { title: 'STATE' },
  { title: 'WHAT' },
]

/** Entries of the ledger as a table, and below it why some could not be released. */
export function printLedger(out: Output, lines: readonly LedgerLine[]): void {
  out.table(
    COLUMNS,
    lines.map(({ ownerId, seq, kind, state, subject }) => {
      return [shortId(ownerId), String(seq), kind, state === 'held' ? state : styled('yellow', state), subject]
    }),
  )
  for (const { ownerId, seq, problem } of lines) {
    if (problem !== null) out.line(`${shortId(ownerId)} ${seq}: `, styled('red', problem))
  }
}
