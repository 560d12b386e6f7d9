import { type SeccompTarget, seccompFilter } from './seccomp.ts'
import type { SeccompProfile } from './seccomp-profile.ts'
import type { LinuxSeccomp } from './spec.ts'

/** Callers choose the sets: without a limit they could fill the memory. */
const MAX_FILTERS = 64

/** The filters that one profile gives on this node, each made once for a set of capabilities. */
export class SeccompFilters {
  readonly #profile: SeccompProfile
  readonly #node: Omit<SeccompTarget, 'capabilities'>
  readonly #filters = new Map<string, LinuxSeccomp>()

  constructor(profile: SeccompProfile, node: Omit<SeccompTarget, 'capabilities'>) {
    this.#profile = profile
    this.#node = node
  }

  /**
   * The filter for a process with this bounding set.
   * @throws CodedError as {@link seccompFilter}.
   */
  for(capabilities: readonly string[]): LinuxSeccomp {
    const key = capabilities.toSorted().join()
    const known = this.#filters.get(key)
    if (known !== undefined) return known
    const { arch, kernelVersion } = this.#node
    const filter = seccompFilter(this.#profile, { capabilities, arch, kernelVersion })
    const [oldest] = this.#filters.keys()
    if (oldest !== undefined && this.#filters.size >= MAX_FILTERS) this.#filters.delete(oldest)
    this.#filters.set(key, filter)
    return filter
  }
}
