import { describe, expect, it } from 'vitest'
import { containerAppArmor } from '../../../src/oci/container-security.ts'
import { containerContext } from './container-fixtures.ts'
import { coded } from './fixtures.ts'

const enabled = { apparmorEnabled: true, selinuxEnabled: false }
const profile = (change: Parameters<typeof containerContext>[0], host = enabled) =>
  containerAppArmor(containerContext(change), host, 'cri-default')

describe('containerAppArmor', () => {
  it.each([
    ['', 'cri-default'],
    ['runtime/default', 'cri-default'],
    ['unconfined', 'unconfined'],
    ['localhost/mine', 'mine'],
  ])('reads the old form %j', (apparmor_profile, expected) => {
    expect(profile({ apparmor_profile })).toBe(expected)
  })

  it('prefers the new form', () => {
    const apparmor = { profile_type: 'Localhost', localhost_ref: 'new' } as const
    expect(profile({ apparmor, apparmor_profile: 'unconfined' })).toBe('new')
    expect(containerAppArmor(null, enabled, 'cri-default')).toBe('cri-default')
  })

  it('refuses what is not known, and a profile that the kernel cannot enforce', () => {
    expect(() => profile({ apparmor_profile: 'mine' })).toThrow(coded('InvalidArgument', 'apparmor_profile'))
    const without = { ...enabled, apparmorEnabled: false }
    expect(() => profile({ apparmor_profile: 'localhost/x' }, without)).toThrow(coded('FailedPrecondition', 'AppArmor'))
    expect(profile({}, without)).toBe('')
  })
})
