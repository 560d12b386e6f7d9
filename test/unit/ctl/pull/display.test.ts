import { describe, expect, it } from 'vitest'
import type { PullProgress } from '../../../../src/admin/api.ts'
import { Output } from '../../../../src/ctl/output.ts'
import { PullDisplay } from '../../../../src/ctl/pull/display.ts'

const at = (stage: PullProgress['stage'], doneBytes: number, totalBytes: number | null): PullProgress => ({
  stage,
  doneBytes,
  totalBytes,
})

function shown(kind: { readonly json?: boolean; readonly terminal?: number }, states: readonly PullProgress[]): string {
  let text = ''
  let now = 0
  const sink = { write: (part: string) => (text += part) }
  const size = kind.terminal === undefined ? undefined : { columns: kind.terminal, rows: 24 }
  const options = { json: kind.json ?? false, isTerminal: size !== undefined, hasColor: false, size: () => size }
  {
    using display = new PullDisplay(new Output(options, { stdout: sink, stderr: sink }), () => now)
    for (const state of states) {
      display.show(state)
      now += 3000
    }
  }
  return text
}

const WHOLE = [
  at('resolve', 0, null),
  at('download', 0, 4_000_000),
  at('download', 1_000_000, 4_000_000),
  at('download', 2_000_000, 4_000_000),
  at('store', 4_000_000, 4_000_000),
  { ...at('done', 4_000_000, 4_000_000), imageRef: 'sha256:1' },
]

describe('PullDisplay', () => {
  it('shows a bar on a terminal, and the image alone at the end', () => {
    const text = shown({ terminal: 100 }, WHOLE)
    expect(text).toContain('\rdownloading         [======                  ]  1.00 MB of 4.00 MB  25 %\u001b[K')
    expect(text.endsWith('\r\u001b[Ksha256:1 (4.00 MB in 15.0 s)\n')).toBe(true)
    const lines = shown({ terminal: 40 }, WHOLE.slice(0, 3)).split('\r')
    for (const line of lines) expect(line.replace('\u001b[K', '').trimEnd().length).toBeLessThan(40)
  })

  it('shows a line now and then elsewhere', () => {
    expect(shown({}, WHOLE).split('\n')).toEqual([
      'asking the registry',
      'downloading 0 B of 4.00 MB',
      'downloading 2.00 MB of 4.00 MB',
      'unpacking 4.00 MB of 4.00 MB',
      'sha256:1 (4.00 MB in 15.0 s)',
      '',
    ])
    expect(shown({}, [{ ...at('done', 0, null), imageRef: 'sha256:1' }])).toBe('sha256:1 (nothing to fetch, 0.0 s)\n')
  })

  it('shows every state as JSON', () => {
    const lines = shown({ json: true }, WHOLE).trimEnd().split('\n')
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(WHOLE)
  })

  it('leaves the line of its bar when it fails', () => {
    expect(shown({ terminal: 100 }, WHOLE.slice(0, 2)).endsWith('\n')).toBe(true)
  })
})
