import { nowNs } from '../core/now.ts'
import { statSync } from 'node:fs'
import { isAbsence, type SmallFiles } from './small-files.ts'

/** The counters of one interface. */
export interface InterfaceReading {
  readonly name: string
  readonly rxBytes: number
  readonly rxPackets: number
  readonly rxErrors: number
  readonly rxDropped: number
  readonly txBytes: number
  readonly txPackets: number
  readonly txErrors: number
  readonly txDropped: number
}

export interface NetworkReading {
  /** Nanoseconds since the epoch. */
  readonly atNs: bigint
  /** All but `lo`. */
  readonly interfaces: readonly InterfaceReading[]
}

export interface NetworkRequest {
  /** A process that should be in the namespace. */
  readonly pid: number
  /** Where the namespace is pinned. */
  readonly netnsPath: string
}

/** Parses the text of `/proc/net/dev`. */
export function parseNetDev(text: string): NetworkReading {
  const interfaces = text.split('\n').flatMap((line) => {
    // A name may hold a colon, but no blank: the last colon ends it.
    const colon = line.lastIndexOf(':')
    const name = line.slice(0, colon).trim()
    if (colon === -1 || name === 'lo') return []
    const fields = line
      .slice(colon + 1)
      .trim()
      .split(/ +/)
      .map(Number)
    const [rxBytes = 0, rxPackets = 0, rxErrors = 0, rxDropped = 0, , , , , ...transmitted] = fields
    const [txBytes = 0, txPackets = 0, txErrors = 0, txDropped = 0] = transmitted
    return [{ name, rxBytes, rxPackets, rxErrors, rxDropped, txBytes, txPackets, txErrors, txDropped }]
  })
  return { atNs: nowNs(), interfaces }
}

/**
 * Reads the counters through a process, the cheap way. Null when it is not in the namespace that is pinned there: the
 * pid may belong to somebody else by now, and the node's counters must not pass for the pod's.
 */
export function readNetwork(
  { files, proc }: { readonly files: SmallFiles; readonly proc: string },
  { pid, netnsPath }: NetworkRequest,
): NetworkReading | null {
  try {
    const [pinned, its] = [statSync(netnsPath), statSync(`${proc}/${pid}/ns/net`)]
    if (pinned.ino !== its.ino || pinned.dev !== its.dev) return null
  } catch (error) {
    if (isAbsence(error)) return null
    throw error
  }
  const text = files.text(`${proc}/${pid}/net/dev`)
  return text === null ? null : parseNetDev(text)
}
