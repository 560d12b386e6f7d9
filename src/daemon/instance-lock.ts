import { closeSync, openSync } from 'node:fs'
import { CodedError } from '../core/errors.ts'
import { type Libc, LOCK_EX, LOCK_NB, SyscallError } from '../host/libc.ts'

/**
 * Makes sure that no other daemon uses the same root directory. The lock goes with the process, however it ends.
 * @throws CodedError `FailedPrecondition` when another one has it.
 */
export function lockInstance(libc: Libc, path: string): Disposable {
  const fd = openSync(path, 'a', 0o600)
  try {
    libc.flock(fd, LOCK_EX | LOCK_NB)
  } catch (error) {
    closeSync(fd)
    if (error instanceof SyscallError && error.errno === 'EAGAIN') {
      throw new CodedError('FailedPrecondition', `lock ${path}: another sandboxerd uses this root directory`)
    }
    throw error
  }
  return { [Symbol.dispose]: () => closeSync(fd) }
}
