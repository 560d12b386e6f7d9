import { once } from 'node:events'
import { constants, createDeflate, createInflate, type Deflate } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DICTIONARY, DICTIONARY_ID } from '../../../../src/streaming/spdy/dictionary.ts'
import { HeaderReader, HeaderWriter } from '../../../../src/streaming/spdy/header-block.ts'

/** A peer that compresses, with one zlib context for all of its blocks. */
class Compressor {
  readonly #deflate: Deflate

  constructor(level: number, dictionary = DICTIONARY) {
    this.#deflate = createDeflate({ level, dictionary })
  }

  async write(block: Buffer): Promise<Buffer> {
    this.#deflate.write(block)
    await new Promise<void>((resolve) => {
      this.#deflate.flush(constants.Z_SYNC_FLUSH, resolve)
    })
    return this.#deflate.read() as Buffer
  }
}

const names = fc.stringMatching(/^[!-@[-~]{1,20}$/)
const values = fc.string({ maxLength: 200 }).filter((value) => !value.includes('\0'))
const headerSets = fc.array(fc.dictionary(names, values, { maxKeys: 8, noNullPrototype: true }), { maxLength: 20 })

function block(...pairs: [string, string][]): Buffer {
  const uint32 = (value: number): Buffer => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')
  const parts = pairs.flat().flatMap((text) => [uint32(Buffer.byteLength(text)), Buffer.from(text)])
  return Buffer.concat([uint32(pairs.length), ...parts])
}

async function read(bytes: Buffer): Promise<unknown> {
  return new HeaderReader().read(await new Compressor(9).write(bytes))
}

describe('HeaderReader and HeaderWriter', () => {
  it('uses the dictionary of SPDY/3', async () => {
    const compressed = await new Compressor(9).write(Buffer.from('x'))
    expect(compressed.readUInt32BE(2)).toBe(DICTIONARY_ID)
  })

  it('reads what was written', () => {
    fc.assert(
      fc.property(headerSets, (sets) => {
        const writer = new HeaderWriter()
        const reader = new HeaderReader()
        for (const headers of sets) expect(reader.read(writer.write(headers))).toEqual(headers)
      }),
    )
  })

  it('reads what a peer compresses, also what it has said before', async () => {
    await fc.assert(
      fc.asyncProperty(headerSets, fc.integer({ min: 0, max: 9 }), async (sets, level) => {
        const compressor = new Compressor(level)
        const reader = new HeaderReader()
        for (const headers of [...sets, ...sets]) {
          const compressed = await compressor.write(block(...Object.entries(headers)))
          expect(reader.read(compressed)).toEqual(headers)
        }
      }),
      { numRuns: 30 },
    )
  })

  it('reads on when more has been said than deflate looks back', async () => {
    const compressor = new Compressor(9)
    const reader = new HeaderReader()
    for (let i = 0; i < 60; i++) {
      const headers = { [`name-${i % 7}`]: `${i} `.repeat(400) }
      expect(reader.read(await compressor.write(block(...Object.entries(headers))))).toEqual(headers)
    }
  })

  it('writes what zlib can inflate', async () => {
    const writer = new HeaderWriter()
    const inflate = createInflate({ dictionary: DICTIONARY })
    for (const headers of [{ streamtype: 'error' }, {}, { port: '80', requestid: '0' }]) {
      inflate.write(writer.write(headers))
      await once(inflate, 'readable')
      expect(inflate.read()).toEqual(block(...Object.entries(headers)))
    }
    inflate.close()
  })

  it.each([
    ['in upper case', [['Name', 'a']]],
    ['empty', [['', 'a']]],
    [
      'there twice',
      [
        ['a', 'b'],
        ['a', 'c'],
      ],
    ],
    ['with a NUL', [['a\0b', 'c']]],
    ['with a line break', [['a\nb', 'c']]],
    ['with several values', [['a', 'b\0c']]],
  ] as [string, [string, string][]][])('has no headers for names %s, and reads on', async (_what, pairs) => {
    const compressor = new Compressor(9)
    const reader = new HeaderReader()
    expect(reader.read(await compressor.write(block(...pairs)))).toBeNull()
    expect(reader.read(await compressor.write(block(['a', 'b'])))).toEqual({ a: 'b' })
  })

  it('takes a name for nothing but a name', async () => {
    const headers = (await read(block(['__proto__', 'x'], ['constructor', 'y']))) as object
    expect(Object.entries(headers)).toEqual([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ])
    expect(Object.getPrototypeOf(headers)).toBe(Object.prototype)
  })

  it('refuses a block that becomes too large', async () => {
    await expect(read(block(['a', 'b'.repeat(10_000_000)]))).rejects.toMatchObject({ code: 'InvalidArgument' })
    expect(() => new HeaderWriter().write({ a: 'b'.repeat(20_000) })).toThrow('headers')
  })

  it.each([
    ['is cut short', Buffer.from('000000010000000161', 'hex')],
    ['has a length beyond its end', Buffer.from('00000001ffffffff61', 'hex')],
    ['counts more than there is', Buffer.from('ffffffff', 'hex')],
    ['goes on after its end', Buffer.concat([block(['a', 'b']), Buffer.alloc(1)])],
    ['is empty', Buffer.alloc(0)],
  ])('refuses a block that %s', async (_what, bytes) => {
    await expect(read(bytes)).rejects.toMatchObject({ code: 'InvalidArgument' })
  })

  it('refuses what is not a zlib stream with the dictionary', async () => {
    const good = await new Compressor(9).write(block(['a', 'b']))
    const other = await new Compressor(9, Buffer.from('other')).write(block(['a', 'b']))
    const garbage = Buffer.from(good).fill(0xff, 6, good.length - 4)
    for (const bytes of [
      Buffer.alloc(0),
      good.subarray(6),
      good.subarray(0, -4),
      good.subarray(0, 3),
      other,
      garbage,
    ]) {
      expect(() => new HeaderReader().read(bytes)).toThrow('header block of the peer')
    }
  })

  it('has headers, none or a CodedError for any bytes', () => {
    const bytes = fc.uint8Array({ maxLength: 200 }).map((it) => Buffer.from(it))
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 1 }), (all) => {
        const start = new HeaderWriter().write({})
        const reader = new HeaderReader()
        reader.read(start)
        try {
          for (const piece of all) reader.read(Buffer.concat([piece, start.subarray(-4)]))
        } catch (error) {
          expect(error).toMatchObject({ code: 'InvalidArgument' })
        }
      }),
      { numRuns: 1000 },
    )
  })
})
