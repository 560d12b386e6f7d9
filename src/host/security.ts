import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { CAPABILITIES } from '../core/capabilities.ts'
import { CodedError, errnoOf } from '../core/errors.ts'

/** What the kernel and the daemon's own privileges allow. None of it changes while the daemon runs. */
export interface HostSecurityFacts {
  readonly apparmorEnabled: boolean
  readonly selinuxEnabled: boolean
  readonly seccompEnabled: boolean
  /** The daemon's bounding set: no process it starts can have more. */
  readonly boundingCapabilities: readonly string[]
  /** Whether the daemon may lower an `oom_score_adj`. */
  readonly hasSysResource: boolean
  /** The daemon's own `oom_score_adj`. */
  readonly oomScoreAdj: number
  /** `process.arch`. */
  readonly arch: string
  /** As `uname -r` shows it. */
  readonly kernelVersion: string
}

/**
 * Reads the facts. A few small files of /proc and /sys, once at start, hence synchronous.
 *
 * @throws CodedError `Unavailable` when /proc is not readable or not as proc(5) says.
 */
export function readHostSecurity(): HostSecurityFacts {
  const status = readText('/proc/self/status')
  const effective = capabilityNames(statusField(status, 'CapEff'))
  return {
    apparmorEnabled: readText('/sys/module/apparmor/parameters/enabled', '').trim() === 'Y',
    selinuxEnabled: existsSync('/sys/fs/selinux/enforce'),
    seccompEnabled: /^Seccomp:/m.test(status),
    boundingCapabilities: capabilityNames(statusField(status, 'CapBnd')),
    hasSysResource: effective.includes('CAP_SYS_RESOURCE'),
    oomScoreAdj: Number.parseInt(readText('/proc/self/oom_score_adj'), 10),
    arch: process.arch,
    kernelVersion: release(),
  }
}

/** The names of a capability mask in hexadecimal digits. Bits without a name here are left out: no runtime knows them. */
export function capabilityNames(mask: string): string[] {
  const bits = BigInt(`0x${mask}`)
  return CAPABILITIES.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n)
}

function statusField(status: string, name: string): string {
  const value = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1]
  if (value === undefined) throw new CodedError('Unavailable', `read ${name} from /proc/self/status: not there`)
  return value
}

function readText(path: string, ifMissing?: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (ifMissing !== undefined && errnoOf(error) === 'ENOENT') return ifMissing
    throw new CodedError('Unavailable', `read ${path}`, { cause: error })
  }
}
