import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { SCHEMA_VERSION } from '../../../src/store/schema.ts'
import { checkFixture } from '../../support/release-fixture.ts'
import { factsOf, releases } from '../../support/releases.ts'

describe('what released versions have written', () => {
  it.each(releases())('is read whole: $version', (release) => {
    checkFixture(release.dir, factsOf(release))
  })

  it('is in the table of docs/upgrade.md, and so is this version', () => {
    const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8')
    const { version } = JSON.parse(read('package.json')) as { version: string }
    const rows = releases().flatMap((release) => {
      return /^\d/.test(release.version) ? [`| ${release.version} | ${factsOf(release).schema} |`] : []
    })
    for (const row of [...rows, `| ${version} | ${SCHEMA_VERSION} |`]) expect(read('docs/upgrade.md')).toContain(row)
  })

  it('covers every schema that there was', () => {
    const schemas = new Set(releases().map((release) => factsOf(release).schema))
    expect([...schemas].toSorted((a, b) => a - b)).toEqual(Array.from({ length: SCHEMA_VERSION }, (_, at) => at + 1))
  })
})
