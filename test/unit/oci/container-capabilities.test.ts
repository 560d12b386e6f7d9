import { describe, expect, it } from 'vitest'
import { containerCapabilities } from '../../../src/oci/container-capabilities.ts'
import { ALLOWED, capability, containerContext } from './container-fixtures.ts'
import { coded } from './fixtures.ts'

const NONE: string[] = []
const capabilities = (add: string[], drop = NONE, ambient = NONE, privileged = false) =>
  containerCapabilities(
    containerContext({
      privileged,
      capabilities: capability({ add_capabilities: add, drop_capabilities: drop, add_ambient_capabilities: ambient }),
    }),
    ALLOWED,
  )
const DEFAULT = ['CAP_CHOWN', 'CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW']

describe('containerCapabilities', () => {
  it.each([
    ['nothing', NONE, NONE, DEFAULT],
    ['one more, in any spelling', ['sys_admin', 'CAP_SYS_ADMIN'], NONE, [...DEFAULT, 'CAP_SYS_ADMIN']],
    ['one less', NONE, ['CHOWN'], DEFAULT.slice(1)],
    ['all that the daemon has', ['ALL'], NONE, ALLOWED],
    ['all but one', ['all'], ['KILL'], ALLOWED.filter((name) => name !== 'CAP_KILL')],
    ['none', NONE, ['ALL'], []],
    ['one only', ['KILL'], ['ALL'], ['CAP_KILL']],
    ['none, dropping wins', ['ALL'], ['all'], []],
    ['neither, dropping wins', ['SYS_ADMIN'], ['SYS_ADMIN'], DEFAULT],
  ])('gives %s', (_, add, drop, expected) => {
    const sorted = expected.toSorted((one, other) => ALLOWED.indexOf(one) - ALLOWED.indexOf(other))
    expect(capabilities(add, drop)).toEqual({
      bounding: sorted,
      effective: sorted,
      permitted: sorted,
      inheritable: [],
      ambient: [],
    })
  })

  it('makes only what is asked for ambient inheritable', () => {
    expect(capabilities([], ['ALL'], ['NET_RAW'])).toEqual({
      bounding: ['CAP_NET_RAW'],
      effective: ['CAP_NET_RAW'],
      permitted: ['CAP_NET_RAW'],
      inheritable: ['CAP_NET_RAW'],
      ambient: ['CAP_NET_RAW'],
    })
    expect(capabilities([], ['NET_RAW'], ['NET_RAW']).ambient).toEqual([])
  })

  it('is all that the daemon has for a privileged container, and nothing inheritable', () => {
    expect(capabilities([], ['ALL'], [], true)).toMatchObject({ bounding: ALLOWED, inheritable: [], ambient: [] })
    expect(capabilities(['SYS_MODULE'], [], [], true).bounding).toEqual(ALLOWED)
  })

  it('refuses names that are no capability, in every list', () => {
    expect(() => capabilities(['NET_ADMN'])).toThrow(coded('InvalidArgument', 'add_capabilities[0]'))
    expect(() => capabilities([], ['KILL', ''])).toThrow(coded('InvalidArgument', 'drop_capabilities[1]'))
    expect(() => capabilities([], [], ['ALL'])).toThrow(coded('InvalidArgument', 'add_ambient_capabilities'))
  })

  it('refuses what the daemon itself does not have, but lets it be dropped', () => {
    expect(() => capabilities(['SYS_MODULE'])).toThrow(coded('FailedPrecondition', 'CAP_SYS_MODULE'))
    expect(capabilities([], ['SYS_MODULE']).bounding).toEqual(DEFAULT)
  })
})
