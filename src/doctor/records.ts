import type { Container } from '../container/container.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'

/** What is on record on this node. */
export interface Records {
  /** Also of those that are being made, or removed. */
  sandboxes(): readonly Sandbox[]
  containers(): readonly Container[]
  /** Whether anything is on record under this id. */
  isKnown(id: string): boolean
  /** Whether an id was made by this instance, whatever became of it. */
  isOwn(id: string): boolean
  /** Has what was written anew looked at as after a restart. @returns why it is still not to be trusted, or `''`. */
  examine(id: string): Promise<string>
}

/**
 * Whether somebody on record owns something of this kind. Only of one that is stopped its ledger says that it does not: one
 * that runs has all it was given, and of one that is not to be trusted nobody can say.
 */
export function holds(records: Records, id: string, kind: string): boolean {
  const sandbox = records.sandboxes().find((candidate) => candidate.id === id)
  if (!sandbox) return records.isKnown(id)
  const { status, quarantined, entries } = sandbox
  return status.state !== 'STOPPED' || quarantined !== '' || entries.some((entry) => entry.kind === kind)
}

/** The beginning of an id, as people use it. */
export function short(id: string): string {
  return id.slice(0, 12)
}
