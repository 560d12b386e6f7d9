import { describe, expect, it } from 'vitest'
import { SeccompFilters } from '../../../src/oci/seccomp-cache.ts'
import { parseSeccompProfile } from '../../../src/oci/seccomp-profile.ts'

const profile = parseSeccompProfile(
  JSON.stringify({
    defaultAction: 'SCMP_ACT_ERRNO',
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ALLOW' },
      { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
    ],
  }),
  'test',
)
const filters = () => new SeccompFilters(profile, { arch: 'x64', kernelVersion: '6.1.0' })

describe('SeccompFilters', () => {
  it('allows what the capabilities allow', () => {
    const names = (capabilities: string[]) =>
      filters()
        .for(capabilities)
        .syscalls.flatMap((rule) => rule.names)
    expect(names([])).toEqual(['read'])
    expect(names(['CAP_SYS_ADMIN'])).toEqual(['read', 'mount'])
  })

  it('makes one filter for a set of capabilities, and keeps only so many', () => {
    const cache = filters()
    const first = cache.for(['CAP_A', 'CAP_B'])
    expect(cache.for(['CAP_B', 'CAP_A'])).toBe(first)
    for (let at = 0; at < 64; at += 1) cache.for([`CAP_${at}`])
    expect(cache.for(['CAP_A', 'CAP_B'])).not.toBe(first)
  })
})
