import { errnoOf } from '../core/errors.ts'

// Why a database cannot be opened or changed, by the code of SQLite or of the system.

/** Whether the file is as good as it was, but its disk takes nothing: SQLite needs a little room also to read. */
export function isNoRoom(error: unknown): boolean {
  return /^(SQLITE_FULL|SQLITE_READONLY|SQLITE_IOERR_(WRITE|FSYNC|DIR_FSYNC|TRUNCATE|SHM)|ENOSPC|EDQUOT|EROFS)/.test(
    codeOf(error),
  )
}

/** Whether the file is as good as it was, but somebody else has it, or there is no memory or descriptor for it. */
export function isUnavailable(error: unknown): boolean {
  return /^(SQLITE_BUSY|SQLITE_LOCKED|SQLITE_PROTOCOL|SQLITE_NOMEM|SQLITE_IOERR_NOMEM|ENOMEM|EMFILE|ENFILE)/.test(
    codeOf(error),
  )
}

/** Whether it is the content of the database that stands in the way of a change, which more room would not help. */
export function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB|CONSTRAINT|ERROR|MISMATCH)/.test(codeOf(error))
}

function codeOf(error: unknown): string {
  return errnoOf(error) ?? ''
}
