import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LogRecords, type OutputName } from '../../../src/executor/attach/records.ts'

const TIME = '2026-11-21T09:22:03.123456789+00:00'

/** What conmon writes of what it has read at once: a record for each line, a partial one for what has no end. */
function written(stream: OutputName, bytes: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, at)
    const end = newline === -1 ? bytes.length : newline
    const tag = newline === -1 ? 'P' : 'F'
    parts.push(Buffer.from(`${TIME} ${stream} ${tag} `), bytes.subarray(at, end), Buffer.from('\n'))
    at = end + 1
  }
  return Buffer.concat(parts)
}

function read(log: Buffer, stream: OutputName, cuts: readonly number[] = []): Buffer {
  const records = new LogRecords(stream)
  const places = [0, ...cuts.map((cut) => cut % (log.length + 1)).toSorted((a, b) => a - b), log.length]
  return Buffer.concat(
    places.map((place, index) => {
      const input = log.subarray(place, places[index + 1] ?? place)
      const output = Buffer.alloc(input.length)
      return output.subarray(0, records.take(input, output))
    }),
  )
}

/** Bytes with many of those that mean something in a log. */
const bytes = fc
  .array(fc.oneof(fc.constantFrom(0x0a, 0x0d, 0x20, 0x00, 0xff), fc.integer({ min: 0, max: 255 })), { maxLength: 200 })
  .map((values) => Buffer.from(values))
const prints = fc.array(fc.tuple(fc.constantFrom<OutputName>('stdout', 'stderr'), bytes), { maxLength: 20 })

describe('the records of a log', () => {
  it('give back what was printed, wherever they are cut', () => {
    fc.assert(
      fc.property(prints, fc.array(fc.nat()), (all, cuts) => {
        const log = Buffer.concat(all.map(([stream, printed]) => written(stream, printed)))
        for (const wanted of ['stdout', 'stderr'] as const) {
          const printed = Buffer.concat(all.filter(([stream]) => stream === wanted).map(([, part]) => part))
          expect(read(log, wanted, cuts)).toEqual(printed)
        }
      }),
    )
  })

  it('give back what was printed, byte by byte', () => {
    const printed = Buffer.from('one\ntwo\r\n\n\0\xff stdout F three', 'latin1')
    const log = written('stdout', printed)
    expect(read(log, 'stdout', [...log.keys()])).toEqual(printed)
  })

  it('invent no last newline, and lose none that came later', () => {
    expect(read(written('stdout', Buffer.from('end')), 'stdout').toString()).toBe('end')
    const later = Buffer.concat([written('stdout', Buffer.from('end')), written('stdout', Buffer.from('\n'))])
    expect(read(later, 'stdout').toString()).toBe('end\n')
  })

  it('are found again after lines that are none', () => {
    const good = written('stdout', Buffer.from('good\n')).toString()
    const bad = ['x', '', `${TIME} stdout`, `${TIME} stdout X text`, `${TIME} stdoutF text`, 'a b c d', 'x'.repeat(500)]
    expect(read(Buffer.from(`${bad.join(`\n${good}`)}\n${good}`), 'stdout').toString()).toBe(
      'good\n'.repeat(bad.length),
    )
  })

  it('begin anew where they are told to', () => {
    const records = new LogRecords('stdout')
    const output = Buffer.alloc(200)
    records.take(Buffer.from(`${TIME} stdout F cut o`), output)
    records.restart()
    const length = records.take(written('stdout', Buffer.from('new\n')), output)
    expect(output.toString('utf8', 0, length)).toBe('new\n')
  })
})
