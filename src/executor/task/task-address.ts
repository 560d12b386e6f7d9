import { isAbsolute } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import type { TtrpcTarget } from '../../ttrpc/connect.ts'
import type { TaskEndpoint } from '../types.ts'

const SERVICES: Readonly<Record<number, string>> = {
  0: 'containerd.task.v2.Task',
  2: 'containerd.task.v2.Task',
  3: 'containerd.task.v3.Task',
}

/** How a Task service is spoken to. */
export interface TaskTarget {
  /** In full; the messages of both versions are the same. */
  readonly service: string
  readonly protocol: 'ttrpc' | 'grpc'
  /** gRPC knows no virtual machines. */
  readonly target: TtrpcTarget
}

/**
 * Reads what a sandboxer or a shim gave as its Task service: `ttrpc+unix:///path`, `unix:///path` (ttrpc),
 * `ttrpc+hvsock:///path:port`, `grpc+/path`, `grpc+unix:///path`.
 * @throws CodedError `FailedPrecondition` for what cannot be spoken to, naming it.
 */
export function parseTaskEndpoint({ address, version }: TaskEndpoint): TaskTarget {
  const service = SERVICES[version]
  if (service === undefined) throw unusable(address, `it has version ${version}, and 2 and 3 are spoken here`)
  const plus = address.indexOf('+')
  const protocol = plus < 0 ? 'ttrpc' : address.slice(0, plus)
  const rest = address.slice(plus + 1)
  if (protocol === 'ttrpc') return { service, protocol, target: ttrpcTarget(address, rest) }
  if (protocol === 'grpc')
    return { service, protocol, target: { path: unixPath(address, rest.replace(/^unix:\/\//, '')) } }
  throw unusable(address, 'the protocol is neither ttrpc nor grpc')
}

function ttrpcTarget(address: string, rest: string): TtrpcTarget {
  const [, scheme, place = ''] = /^([a-z]+):\/\/(.*)$/.exec(rest) ?? []
  switch (scheme) {
    case 'unix':
      return { path: unixPath(address, place) }
    case 'hvsock': {
      const [, path = '', port] = /^(.*):(\d{1,10})$/.exec(place) ?? []
      if (port === undefined) throw unusable(address, 'it names no port')
      return { path: unixPath(address, path), vsockPort: Number(port) }
    }
    case 'vsock':
      throw unusable(address, 'vsock needs a kind of socket that Node.js cannot open; hvsock can be spoken to')
    case undefined:
      throw unusable(address, 'abstract sockets are not spoken to')
    default:
      throw unusable(address, `${scheme} is not spoken here`)
  }
}

function unixPath(address: string, path: string): string {
  if (!isAbsolute(path) || path.includes('\0')) throw unusable(address, 'its path is not absolute')
  return path
}

function unusable(address: string, why: string): CodedError {
  return new CodedError('FailedPrecondition', `task service at ${JSON.stringify(address)}: ${why}`)
}
