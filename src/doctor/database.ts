import { errorMessage } from '../core/errors.ts'
import type { Loaded } from '../store/rows.ts'
import type { Check, Finding } from './doctor.ts'

/** One that is to be repaired was set aside when it was opened. */
export function databaseSound(path: string, { setAside }: Loaded): Check {
  const suspicion = {
    kind: 'database-damaged',
    ownerId: null,
    subject: path,
    message: `database is damaged (${setAside?.reason}): --fix sets it aside and makes a new one from the checkpoints`,
    isStill: async () => true,
    repair: async () => undefined,
  }
  return { look: async () => (setAside ? [suspicion] : []) }
}

/** Of a database that cannot be read by this version: nothing but that is said. */
export function databaseNewer(path: string, error: unknown): Finding {
  return {
    kind: 'database-newer',
    ownerId: null,
    subject: path,
    message: 'database was written by a newer sandboxerd: nothing else was looked into',
    outcome: 'failed',
    problem: errorMessage(error),
  }
}

/** Without the key, or with another, nothing on record can be told from what somebody else has put there. */
export function keyMissing(path: string): Finding {
  const problem = 'restore it from a backup: a daemon that makes another takes every pod on record for tampered with'
  return {
    kind: 'key-missing',
    ownerId: null,
    subject: path,
    message: 'the key that seals records is missing: nothing else was looked into',
    outcome: 'failed',
    problem,
  }
}
