import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TerminalSizes } from '../../../src/streaming/command/terminal-sizes.ts'
import { until } from './streaming-fixture.ts'

function sizes() {
  const source = new PassThrough()
  const [seen, bad] = [[] as unknown[], [] as Error[]]
  const reader = new TerminalSizes(source, (error) => bad.push(error))
  return { source, seen, bad, reader }
}

describe('TerminalSizes', () => {
  it('tells the sizes, with the last one at once', async () => {
    const { source, seen, reader } = sizes()
    source.write('{"Width":80,"Height":24}\n{"Width":100,"Height":30}\n')
    await new Promise(setImmediate)
    reader.onSize((size) => seen.push(size))
    expect(seen).toEqual([{ width: 100, height: 30 }])
    source.write('{"Width":65535,"Height":0}')
    await until(() => seen.length === 2)
    expect(seen[1]).toEqual({ width: 65_535, height: 0 })
  })

  it('tells only the last of those that come at once', async () => {
    const { source, seen, reader } = sizes()
    reader.onSize((size) => seen.push(size))
    source.write('{"Width":80,"Height":24}\n'.repeat(1000) + '{"Width":100,"Height":30}\n{"Wid')
    await until(() => seen.length > 0)
    expect(seen).toEqual([{ width: 100, height: 30 }])
  })

  it('reads them however they are cut', async () => {
    const size = fc.record({ width: fc.nat(65_535), height: fc.nat(65_535) })
    await fc.assert(
      fc.asyncProperty(fc.array(size, { maxLength: 10 }), fc.array(fc.nat(200)), async (expected, cuts) => {
        const { source, seen, bad, reader } = sizes()
        reader.onSize((found) => seen.push(found))
        const text = expected.map(({ width, height }) => JSON.stringify({ Width: width, Height: height })).join('\n')
        let from = 0
        for (const to of [...cuts.sort((a, b) => a - b), text.length]) {
          source.write(text.slice(from, to))
          from = to
        }
        source.end()
        await once(source, 'end')
        expect(expected).toEqual(expect.arrayContaining(seen))
        expect([seen.at(-1), bad]).toEqual([expected.at(-1), []])
      }),
    )
  })

  it.each([
    '{"Width":80.5,"Height":24}',
    '{"Width":-1,"Height":24}',
    '{"Width":65536,"Height":24}',
    '{"Width":"80","Height":24}',
    '{"Width":1e999,"Height":1}',
    '{"Width":{}',
    'null}',
    '[1]}',
    'x'.repeat(257),
    `{"Width":${' '.repeat(300)}`,
  ])('refuses %j, and reads no more', async (text) => {
    const { source, seen, bad, reader } = sizes()
    reader.onSize((size) => seen.push(size))
    source.write(text)
    await until(() => bad.length === 1)
    source.write('{"Width":80,"Height":24}')
    source.end()
    await once(source, 'end')
    expect(bad[0]).toMatchObject({ code: 'InvalidArgument' })
    expect([seen, bad.length]).toEqual([[], 1])
  })
})
