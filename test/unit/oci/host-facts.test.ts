import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readCgroupMode } from '../../../src/host/cgroup/cgroup-mode.ts'
import { capabilityNames, readHostSecurity } from '../../../src/host/security.ts'

describe('capabilityNames', () => {
  it('names the bits of a mask', () => {
    expect(capabilityNames('0000000000000000')).toEqual([])
    expect(capabilityNames('0000000000000021')).toEqual(['CAP_CHOWN', 'CAP_KILL'])
    expect(capabilityNames('000001fffeffffff')).not.toContain('CAP_SYS_RESOURCE')
    expect(capabilityNames('000001ffffffffff')).toHaveLength(41)
    expect(capabilityNames('ffffffffffffffff')).toHaveLength(41)
  })
})

describe('readHostSecurity', () => {
  it('reads this machine', () => {
    const facts = readHostSecurity()
    expect(facts.arch).toBe(process.arch)
    expect(facts.kernelVersion).toMatch(/^[0-9]+\.[0-9]+/)
    expect(facts.oomScoreAdj).toBeGreaterThanOrEqual(-1000)
    expect(facts.oomScoreAdj).toBeLessThanOrEqual(1000)
    if (facts.hasSysResource) expect(facts.boundingCapabilities).toContain('CAP_SYS_RESOURCE')
  })
})

describe('readCgroupMode', () => {
  it('knows the hierarchy of this machine', () => {
    expect(['v1', 'hybrid', 'v2']).toContain(readCgroupMode())
  })

  it('is v1 where no v2 hierarchy is mounted', () => {
    const root = mkdtempSync(join(tmpdir(), 'sandboxerd-cgroup-'))
    try {
      expect(readCgroupMode(root)).toBe('v1')
    } finally {
      rmSync(root, { recursive: true })
    }
  })
})
