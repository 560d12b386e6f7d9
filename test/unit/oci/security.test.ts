import { describe, expect, it } from 'vitest'
import type { SecurityProfile__Output } from '../../../src/generated/runtime/v1/SecurityProfile.ts'
import { resolveAppArmor, resolveSelinux } from '../../../src/oci/security.ts'
import { coded } from './fixtures.ts'

const NONE = { apparmorEnabled: false, selinuxEnabled: false }
const BOTH = { apparmorEnabled: true, selinuxEnabled: true }
const OPTIONS = { privileged: false, defaultProfile: 'node-default' }
const profile = (
  profile_type: SecurityProfile__Output['profile_type'],
  localhost_ref = '',
): SecurityProfile__Output => ({ profile_type, localhost_ref })
const label = (change: Record<string, string>) => ({ user: '', role: '', type: '', level: '', ...change })

describe('resolveAppArmor', () => {
  it.each([
    [null, BOTH, ''],
    [profile('RuntimeDefault'), BOTH, 'node-default'],
    [profile('RuntimeDefault'), NONE, ''],
    [profile('Unconfined'), BOTH, 'unconfined'],
    [profile('Unconfined'), NONE, ''],
    [profile('Localhost', 'mine'), BOTH, 'mine'],
    [profile('Localhost', 'localhost/mine'), BOTH, 'mine'],
  ])('%j on %j: %j', (given, host, expected) => {
    expect(resolveAppArmor(given, host, OPTIONS)).toBe(expected)
  })

  it('says that the kernel has none when a profile was named', () => {
    expect(() => resolveAppArmor(profile('Localhost', 'mine'), NONE, OPTIONS)).toThrow(
      coded('FailedPrecondition', 'no AppArmor'),
    )
  })

  it.each(['', 'a b', 'a\nb'])('refuses the reference %j', (ref) => {
    expect(() => resolveAppArmor(profile('Localhost', ref), BOTH, OPTIONS)).toThrow('apparmor.localhost_ref')
  })
})

describe('resolveSelinux', () => {
  it('completes a label from its level', () => {
    expect(resolveSelinux(label({ level: 's0:c1,c2' }), false, BOTH)).toEqual({
      processLabel: 'system_u:system_r:container_t:s0:c1,c2',
      mountLabel: 'system_u:object_r:container_file_t:s0:c1,c2',
    })
  })

  it('keeps what was given', () => {
    const given = label({ user: 'u', role: 'r', type: 't', level: 's0-s15:c0.c1023' })
    expect(resolveSelinux(given, false, BOTH).processLabel).toBe('u:r:t:s0-s15:c0.c1023')
  })

  it('gives none where none was asked for, and none to a privileged pod', () => {
    const none = { processLabel: '', mountLabel: '' }
    expect(resolveSelinux(null, false, NONE)).toEqual(none)
    expect(resolveSelinux(label({}), false, NONE)).toEqual(none)
    expect(resolveSelinux(label({ level: 's0' }), true, BOTH)).toEqual(none)
  })

  it.each([{ level: 's0:x' }, { level: 's0:c1,' }, { user: 'a:b' }, { type: 'a\nb' }, { role: 'a b' }])(
    'refuses %j',
    (given) => {
      expect(() => resolveSelinux(label(given), false, BOTH)).toThrow(coded('InvalidArgument', 'selinux_options.'))
    },
  )

  it('says that the kernel has none when a label was asked for', () => {
    expect(() => resolveSelinux(label({ type: 't' }), false, NONE)).toThrow(coded('FailedPrecondition'))
  })
})
