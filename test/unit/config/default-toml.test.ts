import { describe, expect, it } from 'vitest'
import { assignment, defaultConfigToml } from '../../../src/config/default-toml.ts'
import { describeConfig } from '../../../src/config/describe.ts'
import { parseConfig } from '../../../src/config/parse.ts'
import { configurationDoc } from '../../support/configuration-doc.ts'

describe('defaultConfigToml', () => {
  it('parses to exactly the defaults', () => {
    expect(parseConfig(defaultConfigToml(), 'printed')).toEqual(parseConfig('', 'embedded'))
  })

  it('gives every key with its default outside the named tables, each explained', () => {
    const lines = defaultConfigToml().split('\n')
    for (const { name, keys, entries } of describeConfig()) {
      if (name !== '' && entries === undefined) expect(lines).toContain(`[${name}]`)
      for (const key of keys) {
        expect(key.description, key.name).not.toBe('')
        if (entries !== undefined) expect(lines.some((line) => line.startsWith(`#   ${key.name}: `))).toBe(true)
        else expect(lines).toContain(assignment(key.name, key.byDefault))
      }
    }
  })

  it('keeps its lines short', () => {
    for (const line of defaultConfigToml().split('\n')) expect(line.length).toBeLessThanOrEqual(100)
  })
})

describe('docs/configuration.md', () => {
  it('is made from the schema (vitest -u writes it anew)', async () => {
    await expect(configurationDoc()).toMatchFileSnapshot('../../../docs/configuration.md')
  })
})
