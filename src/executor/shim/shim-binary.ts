import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import { shimName } from '../../core/runtime-type.ts'

/**
 * Finds the program of a runtime type.
 * @param searchPath directories, separated by `:`.
 * @throws CodedError `FailedPrecondition` when there is none, or for what names no shim.
 */
export async function findShimBinary(runtimeType: string, searchPath: string): Promise<string> {
  const name = shimName(runtimeType)
  if (name === undefined) {
    throw new CodedError(
      'FailedPrecondition',
      `runtime type ${JSON.stringify(runtimeType)}: not as io.containerd.runc.v2`,
    )
  }
  if (isAbsolute(runtimeType)) {
    if (await isExecutable(runtimeType)) return runtimeType
    throw new CodedError('FailedPrecondition', `runtime type ${runtimeType}: there is no such program`)
  }
  for (const directory of searchPath.split(':').filter(isAbsolute)) {
    const path = join(directory, name)
    if (await isExecutable(path)) return path
  }
  throw new CodedError('FailedPrecondition', `runtime type ${runtimeType}: there is no ${name} in ${searchPath}`)
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
