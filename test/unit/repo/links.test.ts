import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const REPO = fileURLToPath(new URL('../../..', import.meta.url))
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...pagesIn('docs'), ...pagesIn('docs/adr')]

function pagesIn(directory: string): string[] {
  return readdirSync(join(REPO, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(directory, name))
}

/** As GitHub makes them: lower case, no punctuation, blanks as hyphens. */
function anchors(page: string): Set<string> {
  const text = readFileSync(join(REPO, page), 'utf8').replaceAll(/^```[^]*?^```/gm, '')
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading)
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  )
}

describe('links between pages', () => {
  it.each(pages)('of %s lead somewhere', (page) => {
    const text = readFileSync(join(REPO, page), 'utf8').replaceAll(/^```[^]*?^```/gm, '')
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
    const broken = targets
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [path = '', anchor = ''] = target.split('#')
        const file = path === '' ? page : join(dirname(page), path)
        if (!existsSync(join(REPO, file))) return true
        return anchor !== '' && !anchors(file).has(anchor)
      })
    expect(broken).toEqual([])
  })
})
