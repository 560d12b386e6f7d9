import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8')

describe('docs/runbook.md', () => {
  const page = read('docs/runbook.md')
  const rules = read('packaging/observability/alerts.yaml')
  const alerts = [...rules.matchAll(/^ *- alert: (\w+)$/gm)].map(([, name = '']) => name)
  const sections = [...page.matchAll(/^## (\w+)$/gm)].map(([, name = '']) => name)

  it('has a section for each alert, in their order, and no other', () => {
    expect(alerts.length).toBeGreaterThan(10)
    expect(sections).toEqual(alerts)
  })

  it('is where the rules say', () => {
    const urls = [...rules.matchAll(/^ *runbook_url: (.*)$/gm)].map(([, url = '']) => url)
    expect(urls).toEqual(alerts.map((name) => `docs/runbook.md#${name.toLowerCase()}`))
  })

  it('says in each what it means, and what to look at', () => {
    for (const section of page.split(/^## /m).slice(1)) {
      expect(section, section.split('\n', 1)[0]).toMatch(/^\w+\n\n[A-Z][^]*?\n\n- /)
    }
  })
})
