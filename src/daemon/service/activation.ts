import { CodedError } from '../../core/errors.ts'
import type { PassedSocket } from '../../host/systemd/service-environment.ts'
import { listeningPathOf } from '../../host/systemd/sockets.ts'

/** By the path that it is bound to, the descriptor of each socket that is open already. */
export type ActivatedSockets = ReadonlyMap<string, number>

/**
 * Finds out which of our sockets the service manager holds for us. Their files, modes and groups are those of its unit.
 *
 * @param wanted what the configuration says that we serve: `[cri] socket` and the like, and their paths.
 * @throws CodedError `FailedPrecondition` for a socket that we do not serve: who connected to it would wait for ever.
 */
export function activatedSockets(
  passed: readonly PassedSocket[],
  wanted: Readonly<Record<string, string>>,
  pathOf: (fd: number) => string = listeningPathOf,
): ActivatedSockets {
  const sockets = new Map<string, number>()
  for (const { fd, name } of passed) {
    const path = pathOf(fd)
    const refuse = (why: string): CodedError =>
      new CodedError('FailedPrecondition', `use the socket ${path} of the service manager (${name}): ${why}`)
    if (!Object.values(wanted).includes(path)) {
      const known = Object.entries(wanted).map(([key, value]) => `${key} = ${value}`)
      throw refuse(`the configuration has ${known.join(', ')}; ListenStream= of the socket unit must be one of these`)
    }
    if (sockets.has(path)) throw refuse('it was given twice')
    sockets.set(path, fd)
  }
  return sockets
}
