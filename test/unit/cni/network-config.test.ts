import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseNetworkConfig, parsePluginConfig } from '../../../src/cni/network-config.ts'
import { containing } from '../../support/cni-plugins/containing.ts'

const parse = (value: unknown) => parseNetworkConfig(JSON.stringify(value))

describe('parseNetworkConfig', () => {
  it('reads a list and leaves its plugins as they are', () => {
    const bridge = { type: 'bridge', zeta: [1, { a: null }], alpha: { b: 2.5 }, capabilities: { mac: true } }
    const { config } = parse({
      cniVersion: '0.4.0',
      cniVersions: ['0.4.0', '1.1.0'],
      name: 'net',
      disableCheck: true,
      disableGC: 'True',
      plugins: [bridge, { type: 'portmap' }],
    })
    expect(config).toEqual({
      name: 'net',
      cniVersions: ['0.4.0', '1.1.0'],
      disableCheck: true,
      disableGc: true,
      plugins: [bridge, { type: 'portmap' }],
    })
    expect(JSON.stringify(config.plugins[0])).toBe(JSON.stringify(bridge))
  })

  it('reads a single plugin as a list of one, without a folder', () => {
    const single = { cniVersion: '1.0.0', name: 'net', type: 'bridge', mtu: 1400 }
    const { config, loadOnlyInlinedPlugins } = parse(single)
    expect(config).toEqual({
      name: 'net',
      cniVersions: ['1.0.0'],
      disableCheck: false,
      disableGc: false,
      plugins: [single],
    })
    expect(loadOnlyInlinedPlugins).toBe(true)
  })

  it('leaves a list without plugins to its folder', () => {
    expect(parse({ cniVersion: '1.0.0', name: 'net' })).toMatchObject({
      config: { plugins: [] },
      loadOnlyInlinedPlugins: false,
    })
  })

  it.each([
    ['name', { cniVersion: '1.0.0', plugins: [{ type: 'bridge' }] }],
    ['name', { name: '../x', plugins: [{ type: 'bridge' }] }],
    ['name', { name: 'a'.repeat(201), plugins: [{ type: 'bridge' }] }],
    ['name', { name: '', plugins: [{ type: 'bridge' }] }],
    ['plugins', { name: 'net', plugins: { type: 'bridge' } }],
    ['plugins[1].type', { name: 'net', plugins: [{ type: 'bridge' }, {}] }],
    ['plugins[0].type', { name: 'net', plugins: [{ type: '../bin/sh' }] }],
    ['plugins[0].type', { name: 'net', plugins: [{ type: '..' }] }],
    ['plugins[0].capabilities', { name: 'net', plugins: [{ type: 'x', capabilities: { mac: 'yes' } }] }],
    ['cniVersion', { name: 'net', cniVersion: 1, plugins: [{ type: 'bridge' }] }],
    ['disableCheck', { name: 'net', disableCheck: 'perhaps', plugins: [{ type: 'bridge' }] }],
    ['not a JSON object', ['x']],
    ['not a JSON object', null],
  ])('names %s', (where, value) => {
    expect(() => parse(value)).toThrow(expect.objectContaining({ code: 'InvalidArgument', message: containing(where) }))
  })

  it('refuses every text that is no configuration without any other error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(() => parseNetworkConfig(text)).toThrow(expect.objectContaining({ code: 'InvalidArgument' }))
        expect(() => parsePluginConfig(text)).toThrow(expect.objectContaining({ code: 'InvalidArgument' }))
      }),
    )
  })
})
