import { readFile } from 'node:fs/promises'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { SecurityProfile__Output } from '../generated/runtime/v1/SecurityProfile.ts'
import type { Programs } from '../host/programs/programs.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import { resolveSeccomp, seccompFilter } from '../oci/seccomp.ts'
import { SeccompFilters } from '../oci/seccomp-cache.ts'
import { parseSeccompProfile } from '../oci/seccomp-profile.ts'
import type { LinuxSeccomp } from '../oci/spec.ts'

/** The parts of a security context that say how system calls are filtered. */
export interface SeccompContext {
  readonly seccomp: SecurityProfile__Output | null
  readonly seccomp_profile_path: string
  readonly privileged: boolean
}

/** A profile may lie on a file system that hangs: it is read by a program that can be killed. */
const PROFILE_TIMEOUT_MS = 5000
const PROFILE_MAX_BYTES = 1024 * 1024

/** The system call filters of this node: the default profile, read once, and those that security contexts name. */
export class SeccompProfiles {
  readonly #host: HostSecurityFacts
  readonly #default: SeccompFilters | Error
  readonly #programs: Pick<Programs, 'runOk'>

  private constructor(host: HostSecurityFacts, byDefault: SeccompFilters | Error, programs: Pick<Programs, 'runOk'>) {
    this.#host = host
    this.#default = byDefault
    this.#programs = programs
  }

  /** A default profile that cannot be read concerns only those who ask for it. */
  static async load(
    defaultPath: string,
    host: HostSecurityFacts,
    { programs }: { readonly programs: Pick<Programs, 'runOk'> },
  ): Promise<SeccompProfiles> {
    try {
      const profile = parseSeccompProfile(await readFile(defaultPath, 'utf8'), defaultPath)
      return new SeccompProfiles(host, new SeccompFilters(profile, host), programs)
    } catch (cause) {
      const why = `apply the default seccomp profile ${defaultPath}: ${errorMessage(cause)}`
      return new SeccompProfiles(host, new CodedError('FailedPrecondition', why, { cause }), programs)
    }
  }

  /**
   * The filter for a process with these capabilities; null is unconfined.
   * @throws CodedError `FailedPrecondition` when the kernel has no seccomp or the profile cannot be read.
   */
  async filter(
    context: SeccompContext | null,
    capabilities: readonly string[],
    signal: AbortSignal,
  ): Promise<LinuxSeccomp | null> {
    if (context === null) return null
    const choice = resolveSeccomp(context.seccomp, context.seccomp_profile_path, context.privileged)
    if (choice.kind === 'unconfined') return null
    if (!this.#host.seccompEnabled) {
      throw new CodedError('FailedPrecondition', 'apply a seccomp profile: the kernel has no seccomp')
    }
    if (choice.kind === 'default') {
      if (this.#default instanceof Error) throw this.#default
      return this.#default.for(capabilities)
    }
    const text = await this.#read(choice.ref, signal)
    const { arch, kernelVersion } = this.#host
    return seccompFilter(parseSeccompProfile(text, choice.ref), { capabilities, arch, kernelVersion })
  }

  async #read(path: string, signal: AbortSignal): Promise<string> {
    const limits = { timeoutMs: PROFILE_TIMEOUT_MS, signal, maxOutputBytes: PROFILE_MAX_BYTES }
    try {
      return (await this.#programs.runOk('/bin/cat', ['--', path], limits)).stdout
    } catch (cause) {
      throw new CodedError('FailedPrecondition', `read seccomp profile ${path}: ${errorMessage(cause)}`, { cause })
    }
  }
}
