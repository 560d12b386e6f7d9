import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { STATUS_NUMBERS } from '../../../src/core/status-codes.ts'
import { Metrics } from '../../../src/telemetry/metrics.ts'
import { metricsDoc } from '../../support/metrics-doc.ts'

const OBSERVABILITY = new URL('../../../packaging/observability/', import.meta.url)
const RUNBOOK = new URL('../../../docs/runbook.md', import.meta.url)

/** What Prometheus adds to every series of ours. */
const TARGET_LABELS = ['instance', 'job']
const CODES = new Set(['OK', ...Object.keys(STATUS_NUMBERS)])
const SUFFIX = /_(bucket|sum|count)$/

using metrics = new Metrics({ version: '' }, { readUsage: async () => ({ openFds: 0, maxFds: 0, threads: 0 }) })
const known = new Map(metrics.describe().map((metric) => [metric.name, metric]))

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly summary: string
  readonly runbookUrl: string
}

/** As our file is written: one line for each of these. */
function readRules(): Rule[] {
  const [, ...rules] = readFileSync(new URL('alerts.yaml', OBSERVABILITY), 'utf8').split(/^ +- alert: /m)
  return rules.map((text) => {
    const value = (key: string): string => new RegExp(`^ +${key}: (.+)$`, 'm').exec(text)?.[1] ?? ''
    const [alert = ''] = text.split('\n')
    return { alert, expr: value('expr'), summary: value('summary'), runbookUrl: value('runbook_url') }
  })
}

interface Panel {
  readonly title: string
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

function readPanels(): Panel[] {
  const text = readFileSync(new URL('dashboard.json', OBSERVABILITY), 'utf8')
  return (JSON.parse(text) as { panels: Panel[] }).panels
}

/** What is wrong with the metrics and labels of an expression, as far as names go. */
function problemsOf(expr: string): string[] {
  const used: string[] = []
  const problems: string[] = []
  for (const [, name = '', matchers = ''] of expr.matchAll(/\b(sandboxerd_\w+)(?:\{([^}]*)\})?/g)) {
    const metric = known.get(name) ?? known.get(name.replace(SUFFIX, ''))
    const isSeries = metric && (metric.type === 'histogram') === SUFFIX.test(name)
    if (!isSeries) {
      problems.push(`${name}: there is none`)
      continue
    }
    const labels = [...metric.labels, ...TARGET_LABELS, ...(name.endsWith('_bucket') ? ['le'] : [])]
    used.push(...labels)
    for (const [, label = '', values = ''] of matchers.matchAll(/(\w+)\s*[=!]~?"([^"]*)"/g)) {
      if (!labels.includes(label)) problems.push(`${name}: it has no label ${label}`)
      const unknown = label === 'code' ? values.split('|').filter((code) => !CODES.has(code)) : []
      if (unknown.length > 0) problems.push(`${name}: nothing ends with ${unknown.join(', ')}`)
    }
  }
  for (const [, by = ''] of expr.matchAll(/\bby \(([^)]*)\)/g)) {
    for (const label of by.split(/,\s*/)) if (!used.includes(label)) problems.push(`by (${label}): nothing has it`)
  }
  return problems
}

/** The labels that an expression leaves to those who show it; undefined when it leaves all. */
function labelsLeft(expr: string): readonly string[] | undefined {
  const [, by] = /\bby \(([^)]*)\)/.exec(expr) ?? []
  return by?.split(/,\s*/)
}

describe('docs/metrics.md', () => {
  it('has every metric', async () => {
    await expect(metricsDoc()).toMatchFileSnapshot('../../../docs/metrics.md')
  })
})

describe('metrics', () => {
  it('are named by the rules of Prometheus', () => {
    for (const { name, type, help, labels } of known.values()) {
      expect(name).toMatch(/^sandboxerd_[a-z_]+$/)
      expect(name.endsWith('_total')).toBe(type === 'counter')
      if (type === 'histogram') expect(name).toMatch(/_seconds$/)
      expect(help).toMatch(/\.$/)
      expect(labels.filter((label) => /id$|^name$/.test(label))).toEqual([])
    }
  })
})

describe('alerts.yaml', () => {
  const rules = readRules()

  it('asks for metrics and labels that there are', () => {
    expect(rules.length).toBeGreaterThan(10)
    expect(rules.flatMap(({ alert, expr }) => problemsOf(expr).map((problem) => `${alert}: ${problem}`))).toEqual([])
  })

  it('has a summary with labels that the alert has, and a page in the runbook, for each', () => {
    const headings = readFileSync(RUNBOOK, 'utf8').match(/^#+ .*$/gm) ?? []
    for (const { alert, expr, summary, runbookUrl } of rules) {
      expect(expr, alert).not.toBe('')
      expect(summary, alert).not.toBe('')
      const left = labelsLeft(expr)
      const shown = [...summary.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label)
      if (left) expect(left, alert).toEqual(expect.arrayContaining(shown))
      expect(runbookUrl).toBe(`docs/runbook.md#${alert.toLowerCase()}`)
      expect(
        headings.some((heading) => heading.replace(/^#+ /, '').trim() === alert),
        `runbook page of ${alert}`,
      ).toBe(true)
    }
  })
})

describe('dashboard.json', () => {
  const panels = readPanels()
  const targets = panels.flatMap(({ title, targets: all = [] }) => all.map((target) => ({ title, ...target })))

  it('asks for metrics and labels that there are', () => {
    expect(targets.length).toBeGreaterThan(20)
    expect(targets.flatMap(({ title, expr }) => problemsOf(expr).map((problem) => `${title}: ${problem}`))).toEqual([])
  })

  it('shows every metric', () => {
    const all = [...targets.map(({ expr }) => expr), ...readRules().map(({ expr }) => expr)].join(' ')
    expect([...known.keys()].filter((name) => !all.includes(name))).toEqual([])
  })

  it('has legends with labels that the series have', () => {
    for (const { title, expr, legendFormat } of targets) {
      const left = labelsLeft(expr)
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label)
      if (left) expect(left, title).toEqual(expect.arrayContaining(shown))
    }
  })
})
