import { describe, expect, it } from 'vitest'
import { clampOomScoreAdj } from '../../../src/oci/oom-score.ts'
import { sandboxUser } from '../../../src/oci/user.ts'
import { coded, securityContext } from './fixtures.ts'

describe('sandboxUser', () => {
  it('honours user, group and supplemental groups, the primary group among them', () => {
    const context = securityContext({
      run_as_user: { value: '1000' },
      run_as_group: { value: '2000' },
      supplemental_groups: ['3000', '2000', '3000'],
    })
    expect(sandboxUser(context)).toEqual({ uid: 1000, gid: 2000, additionalGids: [2000, 3000] })
  })

  it('is root without a user', () => {
    expect(sandboxUser(null)).toEqual({ uid: 0, gid: 0, additionalGids: [0] })
  })

  it('accepts the largest id', () => {
    expect(sandboxUser(securityContext({ run_as_user: { value: '2147483647' } })).uid).toBe(2147483647)
  })

  it.each([
    [{ run_as_user: { value: '2147483648' } }, 'run_as_user'],
    [{ run_as_user: { value: '-1' } }, 'run_as_user'],
    [{ run_as_user: { value: '4294967296' } }, 'run_as_user'],
    [{ run_as_user: { value: '0' }, run_as_group: { value: '9223372036854775807' } }, 'run_as_group'],
    [{ run_as_group: { value: '1' } }, 'run_as_group'],
    [{ supplemental_groups: ['1', '-2'] }, 'supplemental_groups[1]'],
  ])('refuses %j', (change, field) => {
    expect(() => sandboxUser(securityContext(change))).toThrow(
      coded('InvalidArgument', `config.linux.security_context.${field}`),
    )
  })
})

describe('clampOomScoreAdj', () => {
  it.each([
    [-998, 0, true, -998],
    [-998, 0, false, 0],
    [-998, -500, false, -500],
    [300, 0, false, 300],
    [5000, 0, true, 1000],
    [-5000, 0, true, -1000],
  ])('wanted %i, own %i, CAP_SYS_RESOURCE %s: %i', (wanted, own, hasSysResource, expected) => {
    expect(clampOomScoreAdj(wanted, own, hasSysResource)).toBe(expected)
  })
})
