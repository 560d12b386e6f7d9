import { describe, expect, it } from 'vitest'
import { defaultConfigToml } from '../../../src/config/default-toml.ts'
import { parseConfig } from '../../../src/config/parse.ts'
import { installedConfig } from '../../support/installed-config.ts'

describe('packaging/config.toml', () => {
  it('is made from the defaults (vitest -u writes it anew)', async () => {
    await expect(installedConfig()).toMatchFileSnapshot('../../../packaging/config.toml')
  })

  it('says nothing: an upgrade brings its new defaults, and a downgrade finds no key that it does not know', () => {
    const lines = installedConfig().split('\n')
    expect(lines.filter((line) => line !== '' && !line.startsWith('#'))).toEqual([])
  })

  it('holds every default: all of it uncommented is what the daemon prints', () => {
    const uncommented = installedConfig().replaceAll(/^#(?! )/gm, '')
    expect(parseConfig(uncommented, 'uncommented')).toEqual(parseConfig(defaultConfigToml(), 'printed'))
  })
})
