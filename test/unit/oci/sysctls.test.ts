import { normalize } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ownedSysctls } from '../../../src/oci/sysctls.ts'
import { coded } from './fixtures.ts'

const OWN = { ownsNetwork: true, ownsIpc: true }

describe('ownedSysctls', () => {
  it('writes every name with dots', () => {
    expect(
      ownedSysctls({ 'net/ipv4/ip_forward': '1', 'kernel.shm_rmid_forced': '1', 'fs.mqueue.msg_max': '9' }, OWN),
    ).toEqual({
      'net.ipv4.ip_forward': '1',
      'kernel.shm_rmid_forced': '1',
      'fs.mqueue.msg_max': '9',
    })
  })

  it.each(['kernel.sem', 'kernel.msgmax', 'kernel.shmall', 'fs.mqueue.queues_max'])(
    '%s needs an IPC namespace',
    (name) => {
      expect(ownedSysctls({ [name]: '1' }, { ownsNetwork: false, ownsIpc: true })).toEqual({ [name]: '1' })
      expect(() => ownedSysctls({ [name]: '1' }, { ownsNetwork: true, ownsIpc: false })).toThrow('IPC namespace')
    },
  )

  it('takes net sysctls of a pod with its own network only', () => {
    expect(() => ownedSysctls({ 'net.core.somaxconn': '1' }, { ownsNetwork: false, ownsIpc: true })).toThrow(
      'config.linux.sysctls["net.core.somaxconn"]: belongs to the network namespace',
    )
  })

  it('judges each one: kernel.pid_max does not wave the rest through', () => {
    expect(() => ownedSysctls({ 'kernel.pid_max': '1', 'kernel.core_pattern': '|/x' }, OWN)).toThrow('kernel.pid_max')
  })

  it.each([
    'kernel.core_pattern',
    'kernel.semantics',
    'vm.overcommit_memory',
    'fs.file-max',
    'net',
    'net.',
    'net..x',
    'net/../kernel/core_pattern',
    'net/ipv4/conf/eth0.1/forwarding',
    'net.ipv4.conf.eth0/1.forwarding',
    'net.ipv4.ip_forward\n',
    '/net/ipv4/ip_forward',
    '__proto__',
    '',
  ])('refuses %j', (name) => {
    expect(() => ownedSysctls(Object.fromEntries([[name, '1']]), OWN)).toThrow(
      coded('InvalidArgument', 'config.linux.sysctls['),
    )
  })

  it.each(['1\n2', '1\u00002', 'é', 'x'.repeat(4097)])('refuses the value %j', (value) => {
    expect(() => ownedSysctls({ 'net.ipv4.ip_forward': value }, OWN)).toThrow('its value')
  })

  it('does not cut a value at a plus sign', () => {
    const value = '1+kernel.core_pattern=|/bin/x'
    expect(ownedSysctls({ 'net.ipv4.ip_forward': value }, OWN)).toEqual({ 'net.ipv4.ip_forward': value })
  })

  it('refuses one sysctl given in both forms', () => {
    expect(() => ownedSysctls({ 'net.ipv4.ip_forward': '1', 'net/ipv4/ip_forward': '0' }, OWN)).toThrow('twice')
  })

  it('lets no name out of the pod’s part of /proc/sys, however it is written', () => {
    const part = fc.constantFrom('net', 'kernel', 'core_pattern', 'sem', 'msgmax', 'fs', 'mqueue', '..', '.', '', 'x')
    const name = fc
      .array(fc.tuple(part, fc.constantFrom('.', '/')), { minLength: 1, maxLength: 6 })
      .map((parts) => parts.flat().join(''))
    fc.assert(
      fc.property(
        fc.oneof(
          name,
          name.map((text) => text.slice(0, -1)),
        ),
        fc.boolean(),
        fc.boolean(),
        (given, net, ipc) => {
          let names: string[]
          try {
            names = Object.keys(ownedSysctls({ [given]: '1' }, { ownsNetwork: net, ownsIpc: ipc }))
          } catch {
            return
          }
          for (const written of names) {
            const file = normalize(`/proc/sys/${written.replaceAll('.', '/')}`)
            const allowed = [
              ...(net ? ['/proc/sys/net/'] : []),
              ...(ipc ? ['/proc/sys/kernel/sem', '/proc/sys/kernel/msg', '/proc/sys/fs/mqueue/'] : []),
            ]
            expect(allowed.some((prefix) => file.startsWith(prefix))).toBe(true)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})
