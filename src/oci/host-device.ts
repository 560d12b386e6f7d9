import type { Device } from './spec.ts'

/** What a path of the node is, as `stat` says. */
export interface HostFile {
  readonly kind: string
  readonly major: number
  readonly minor: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

const TYPES: Readonly<Record<string, Device['type']>> = { block: 'b', char: 'c', fifo: 'p' }

/** The node at `path` in a container that is like this one of the node; undefined when that is no device. */
export function hostDevice(path: string, { kind, major, minor, mode, uid, gid }: HostFile): Device | undefined {
  const type = TYPES[kind]
  return type === undefined ? undefined : { path, type, major, minor, fileMode: mode & 0o7777, uid, gid }
}
