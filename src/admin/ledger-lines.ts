import { redactText } from '../core/redact-text.ts'
import type { LedgerEntry } from '../store/ledger.ts'
import type { LedgerLine } from './api.ts'

/** Entries of the ledger for people. */
export function ledgerLines(entries: readonly LedgerEntry[]): readonly LedgerLine[] {
  return entries.map(ledgerLine)
}

/** One of them. */
export function ledgerLine({ ownerId, seq, kind, state, record, bootId, problem }: LedgerEntry): LedgerLine {
  const why = problem === undefined ? null : redactText(problem)
  return { ownerId, seq, kind, state, subject: subjectOf(record), bootId, problem: why }
}

/** What a record is about. Records are of many kinds and may be damaged: whatever tells most is taken. */
function subjectOf(record: unknown): string {
  const { attachment, path, files, sandboxer, record: inner, cgroupsPath, bundleDir } = members(record)
  if (typeof path === 'string') return path
  if (attachment !== undefined) return attachmentText(members(attachment))
  if (typeof sandboxer === 'string') return controlledText(sandboxer, members(inner))
  const own = [cgroupsPath, bundleDir, files].find((text) => typeof text === 'string' && text !== '')
  return typeof own === 'string' ? own : ''
}

function attachmentText({ network, ifName, netnsPath }: Readonly<Record<string, unknown>>): string {
  return [network, ifName, netnsPath].filter((text) => typeof text === 'string' && text !== '').join(' ')
}

function controlledText(sandboxer: string, record: Readonly<Record<string, unknown>>): string {
  const { container, address, ipcPath, utsPath } = record
  const places = [members(container)['cgroupsPath'], address, ipcPath, utsPath]
  return [sandboxer, ...places].filter((text) => typeof text === 'string' && text !== '').join(' ')
}

function members(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
