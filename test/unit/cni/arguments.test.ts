import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cniArgs, formatCniArgs } from '../../../src/cni/arguments.ts'
import { podConfig } from '../../support/cni-plugins/pod-config.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const prefix = 'extension.network.kubernetes.io/cniargs/'

describe('cniArgs', () => {
  it('says who the pod is', () => {
    expect(formatCniArgs(cniArgs('abc', podConfig()))).toBe(
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=uid-1',
    )
  })

  it('adds what annotations ask for, in the order of their names', () => {
    const annotations = {
      [`${prefix}b`]: 'B=2',
      [`${prefix}a`]: 'A=1',
      'extension.network.kubernetes.io/cni': 'plane0',
      other: 'x=y',
    }
    expect(cniArgs('abc', podConfig({ annotations })).slice(5)).toEqual([
      ['CNI_MUTLINET_EXTENSION', 'plane0'],
      ['A', '1'],
      ['B', '2'],
    ])
  })

  it('does not let an annotation say that the pod is another one', () => {
    const annotations = { [`${prefix}a`]: 'K8S_POD_NAME=other', [`${prefix}b`]: 'A=1', [`${prefix}c`]: 'A=2' }
    const args = cniArgs('abc', podConfig({ annotations }))
    expect(args.filter(([key]) => key === 'K8S_POD_NAME')).toEqual([['K8S_POD_NAME', 'web']])
    expect(args.filter(([key]) => key === 'A')).toEqual([['A', '1']])
  })

  it.each(['A', 'A=1=2', '=1', 'A=1;B=2', 'A=1\n', 'A\u0000=1', ''])('refuses the argument %j', (value) => {
    const name = `${prefix}x`
    expect(() => cniArgs('abc', podConfig({ annotations: { [name]: value } }))).toThrow(
      expect.objectContaining({
        code: 'InvalidArgument',
        message: containing(`config.annotations[${name}]`),
      }),
    )
  })

  it.each([';', '=', '\n', '\u0000', '\u007f'])('refuses %j in any value', (bad) => {
    const metadata = { name: `a${bad}b`, namespace: 'default', uid: 'u', attempt: 0 }
    expect(() => cniArgs('abc', podConfig({ metadata }))).toThrow('config.metadata.name')
    const annotations = { 'extension.network.kubernetes.io/cni': `a${bad}b` }
    expect(() => cniArgs('abc', podConfig({ annotations }))).toThrow('extension.network.kubernetes.io/cni')
  })

  it('refuses a pod without metadata and arguments that no environment can hold', () => {
    expect(() => cniArgs('abc', podConfig({ metadata: null }))).toThrow('config.metadata')
    const annotations = { [`${prefix}x`]: `A=${'a'.repeat(70_000)}` }
    expect(() => cniArgs('abc', podConfig({ annotations }))).toThrow('longer than')
  })

  it('is read back by a plugin as it was, whatever the annotations say', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().map((name) => prefix + name),
          fc.string(),
        ),
        (annotations) => {
          let args: readonly (readonly [string, string])[]
          try {
            args = cniArgs('abc', podConfig({ annotations }))
          } catch (error) {
            expect(error).toMatchObject({ code: 'InvalidArgument' })
            return
          }
          const read = formatCniArgs(args)
            .split(';')
            .map((pair) => pair.split('='))
          expect(read).toEqual(args)
        },
      ),
    )
  })
})
