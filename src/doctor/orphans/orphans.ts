import type { OwnedResource } from '../../core/resource.ts'
import type { Check, Suspicion } from '../doctor.ts'
import { short } from '../records.ts'

/** Where things of one kind may be left on the machine. */
export interface OrphanSource {
  /** `orphan-netns` */
  readonly kind: string
  /** For people: what it is, and what becomes of it: `network namespace`, `unpinned`. */
  readonly what: string
  readonly remedy: string
  /**
   * What there is now of this kind and is ours beyond doubt: it lies in our own directories, is a process that can be
   * believed when it names them, or carries an id that we have made.
   */
  list(): Promise<readonly OwnedResource[]>
  /** Whether one is still there, where that is known for less than another list. */
  isThere?(owned: OwnedResource): Promise<boolean>
  /** Whether somebody on record has it. */
  isHeld(owned: OwnedResource): boolean
  /** Gives it back; what is gone is success. */
  release(owned: OwnedResource, signal: AbortSignal): Promise<void>
}

/** Finds what nobody on record has. */
export function orphanCheck(source: OrphanSource): Check {
  return {
    // The machine first, then the records: an owner is on record before it has anything.
    look: async () => (await source.list()).filter((owned) => !source.isHeld(owned)).map((one) => suspect(source, one)),
  }
}

function suspect(source: OrphanSource, owned: OwnedResource): Suspicion {
  const { kind, what, remedy } = source
  const { ownerId, subject } = owned
  return {
    kind,
    ownerId,
    subject,
    message: `${what} of ${short(ownerId)}, which is not on record or has given it back: --fix has it ${remedy}`,
    isStill: async () => (await isThere(source, owned)) && !source.isHeld(owned),
    repair: (signal) => source.release(owned, signal),
  }
}

async function isThere(source: OrphanSource, owned: OwnedResource): Promise<boolean> {
  if (source.isThere) return source.isThere(owned)
  const now = await source.list()
  return now.some(({ subject, ownerId }) => subject === owned.subject && ownerId === owned.ownerId)
}
