import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../../config/config.ts'
import { CodedError, errorCode, errorMessage } from '../../core/errors.ts'
import { loadLibc } from '../../host/libc.ts'
import { prepareDowngrade } from '../../store/downgrade.ts'
import { databasePath } from '../directories.ts'
import { lockInstance } from '../instance-lock.ts'

/**
 * Brings what is on disk to what an older sandboxerd understands, by the version of its schema. Returns what was done.
 * @throws CodedError `FailedPrecondition` while a daemon runs, or as `prepareDowngrade`.
 */
export function runPrepareDowngrade({ root }: Pick<Config, 'root'>, schema: number): string {
  const path = databasePath(root)
  if (!existsSync(path)) return `${path}: there is none, and nothing to do`
  using _lock = lockStopped(root)
  const done = prepareDowngrade(path, schema)
  if (!done) return `${path}: nothing to do for schema version ${schema}`
  return `${path}: brought from schema version ${done.from} to ${done.to}; as it was before, it is kept in ${done.copy}`
}

function lockStopped(root: string): Disposable {
  try {
    return lockInstance(loadLibc(), join(root, 'lock'))
  } catch (error) {
    if (errorCode(error) !== 'FailedPrecondition') throw error
    throw new CodedError('FailedPrecondition', `${errorMessage(error)}: stop it first`, { cause: error })
  }
}
