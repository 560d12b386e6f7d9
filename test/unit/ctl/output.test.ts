import { describe, expect, it } from 'vitest'
import { ageText, durationText, shortId } from '../../../src/ctl/format.ts'
import { Output } from '../../../src/ctl/output.ts'
import { styled } from '../../../src/ctl/style.ts'
import { UsageRates } from '../../../src/ctl/usage-rates.ts'

const ESC = '\u001b'
const HOSTILE = 'a\u001b[2J\u009b31m\u202eb\rc\u0007'

function capture(options: { readonly json?: boolean; readonly hasColor?: boolean; readonly columns?: number } = {}) {
  const written = { stdout: '', stderr: '' }
  const sink = (name: 'stdout' | 'stderr') => ({ write: (text: string) => (written[name] += text) })
  const { json = false, hasColor = false, columns } = options
  const out = new Output(
    {
      json,
      hasColor,
      isTerminal: columns !== undefined,
      size: () => (columns === undefined ? undefined : { columns, rows: 24 }),
    },
    { stdout: sink('stdout'), stderr: sink('stderr') },
  )
  return { out, written }
}

describe('Output', () => {
  it('lets nothing through that steers a terminal, wherever it stands', () => {
    const { out, written } = capture({ hasColor: true })
    out.line(HOSTILE, styled('red', HOSTILE))
    out.note(HOSTILE)
    out.json({ [HOSTILE]: HOSTILE })
    out.jsonLine(HOSTILE)
    out.table([{ title: 'A' }], [[HOSTILE], [styled('green', HOSTILE)]])
    const ours = new RegExp(`${ESC}\\[(?:0|1|31|32)m`, 'g')
    for (const text of Object.values(written)) expect(text.replaceAll(ours, '')).toMatch(/^[\n\x20-\x7e]*$/)
  })

  it('keeps the meaning of JSON', () => {
    const { out, written } = capture({ json: true })
    out.json({ [HOSTILE]: [HOSTILE] })
    expect(JSON.parse(written.stdout)).toEqual({ [HOSTILE]: [HOSTILE] })
  })

  it('lines tables up, numbers to the right, whatever is coloured', () => {
    const { out, written } = capture()
    out.table(
      [{ title: 'NAME' }, { title: 'PID', right: true }, { title: 'X' }],
      [
        [styled('red', 'web'), '7', ''],
        ['database', '12345', 'y'],
      ],
    )
    expect(written.stdout).toBe('NAME        PID  X\nweb           7\ndatabase  12345  y\n')
  })

  it('colours only where it is told to', () => {
    const { out, written } = capture({ hasColor: true })
    out.line(styled('red', 'no'))
    expect(written.stdout).toBe('\u001b[31mno\u001b[0m\n')
  })

  it('cuts what is drawn on a screen to its width', () => {
    const { out } = capture()
    const lines = out.tableLines([{ title: 'A' }, { title: 'B' }], [['x'.repeat(10), 'y'.repeat(10)]], 15)
    expect(lines[1]).toBe(`${'x'.repeat(10)}  yyy`)
  })

  it.each([
    [undefined, 'ID  STATE    PID  PATH\n7   RUNNING   42  /a/long/path\n'],
    [30, 'ID  STATE    PID  PATH\n7   RUNNING   42  /a/long/path\n'],
    [29, 'ID  STATE    PID\n7   RUNNING   42\n'],
    [15, 'ID  STATE\n7   RUNNING\n'],
    // What has to be there is wrapped by the terminal, and not lost.
    [5, 'ID  STATE\n7   RUNNING\n'],
  ])('leaves out what a terminal of %s columns has no room for, and nothing elsewhere', (columns, text) => {
    const { out, written } = capture(columns === undefined ? {} : { columns })
    out.table(
      [{ title: 'ID' }, { title: 'STATE' }, { title: 'PID', right: true, drop: 2 }, { title: 'PATH', drop: 1 }],
      [['7', styled('green', 'RUNNING'), '42', '/a/long/path']],
    )
    expect(written.stdout).toBe(text)
  })
})

describe('what people read', () => {
  it('is short', () => {
    const times = [0.25, 12.4, 3400, 5 * 60_000, 7 * 3_600_000, 9 * 86_400_000, null]
    expect(times.map(durationText)).toEqual(['0.25 ms', '12 ms', '3.4 s', '5 m', '7 h', '9 d', '-'])
    expect(ageText('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:00:30Z'))).toBe('30.0 s')
    expect(shortId('ab'.repeat(32))).toBe('abababababab'.concat('a'))
    expect(shortId('queue')).toBe('queue')
  })
})

describe('UsageRates', () => {
  const usage = (at: string, rxBytes: number) => {
    const network = { at, rxBytes, txBytes: 0 }
    return [{ id: 'a', name: 'web', namespace: 'default', cpuCores: null, memoryBytes: null, pids: null, network }]
  }

  it('needs two readings, and keeps a rate while there is no newer one', () => {
    const rates = new UsageRates()
    expect(rates.of(usage('2026-01-01T00:00:00Z', 1000))[0]?.rxBytesPerSecond).toBeNull()
    expect(rates.of(usage('2026-01-01T00:00:02Z', 3000))[0]?.rxBytesPerSecond).toBe(1000)
    expect(rates.of(usage('2026-01-01T00:00:02Z', 3000))[0]?.rxBytesPerSecond).toBe(1000)
    // A counter that begins anew goes backwards.
    expect(rates.of(usage('2026-01-01T00:00:03Z', 0))[0]?.rxBytesPerSecond).toBe(0)
  })
})
