import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Frame, FrameReader } from '../../../../src/streaming/spdy/frame-reader.ts'
import {
  dataHeader,
  goAwayFrame,
  pingFrame,
  rstStreamFrame,
  synReplyFrame,
  synStreamFrame,
} from '../../../../src/streaming/spdy/frames.ts'
import { HeaderWriter } from '../../../../src/streaming/spdy/header-block.ts'

const ids = fc.integer({ min: 1, max: 0x7fffffff })
const status = fc.integer({ min: 0, max: 0xffffffff })
const headers = fc.dictionary(fc.stringMatching(/^[a-z-]{1,12}$/), fc.stringMatching(/^[ -~]*$/), {
  noNullPrototype: true,
})
const flags = { fin: false, unidirectional: false }

const frames: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ type: fc.constant('synStream' as const), streamId: ids, headers }).map((it) => ({ ...it, ...flags })),
  fc.record({ type: fc.constant('synReply' as const), streamId: ids, headers }).map((it) => ({ ...it, ...flags })),
  fc.record({ type: fc.constant('rstStream' as const), streamId: ids, status }),
  fc.record({ type: fc.constant('ping' as const), id: status }),
  fc.record({ type: fc.constant('goAway' as const), lastStreamId: ids }),
  fc.record({
    type: fc.constant('data' as const),
    streamId: ids,
    payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    first: fc.constant(true),
    fin: fc.boolean(),
  }),
)

function encode(frame: Frame, writer: HeaderWriter): Buffer {
  switch (frame.type) {
    case 'synStream':
      return synStreamFrame(frame.streamId, writer.write(frame.headers ?? {}))
    case 'synReply':
    case 'headers':
      return synReplyFrame(frame.streamId, writer.write(frame.headers ?? {}))
    case 'rstStream':
      return rstStreamFrame(frame.streamId, frame.status)
    case 'ping':
      return pingFrame(frame.id)
    case 'goAway':
      return goAwayFrame(frame.lastStreamId, 0)
    case 'data':
      return Buffer.concat([dataHeader(frame.streamId, frame.payload.length, frame.fin), frame.payload])
  }
}

/** The frames, with data in one piece again. */
function readAll(chunks: readonly Buffer[]): Frame[] {
  const reader = new FrameReader()
  const all: Frame[] = []
  for (const chunk of chunks) {
    for (const frame of reader.read(chunk)) {
      const before = all.at(-1)
      if (frame.type === 'data' && !frame.first && before?.type === 'data') {
        all.splice(-1, 1, { ...before, payload: Buffer.concat([before.payload, frame.payload]), fin: frame.fin })
      } else all.push(frame)
    }
  }
  return all
}

function control(type: number, payload: Buffer, version = 3): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(0x8000 | version)
  header.writeUInt16BE(type, 2)
  header.writeUInt32BE(payload.length, 4)
  return Buffer.concat([header, payload])
}

describe('FrameReader', () => {
  it('reads what was written, wherever it is cut', () => {
    fc.assert(
      fc.property(fc.array(frames), fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (all, cuts) => {
        const writer = new HeaderWriter()
        const bytes = Buffer.concat(all.map((frame) => encode(frame, writer)))
        const chunks: Buffer[] = []
        for (let offset = 0, i = 0; offset < bytes.length; i++) {
          const end = offset + (cuts[i % cuts.length] ?? 1)
          chunks.push(bytes.subarray(offset, end))
          offset = end
        }
        expect(readAll(chunks)).toEqual(all)
      }),
    )
  })

  it('hands data on before its frame is complete', () => {
    const reader = new FrameReader()
    const begin = [...reader.read(Buffer.concat([dataHeader(1, 0xffffff, true), Buffer.from('abc')]))]
    expect(begin).toEqual([{ type: 'data', streamId: 1, payload: Buffer.from('abc'), first: true, fin: false }])
    const rest = [...reader.read(Buffer.alloc(0xffffff - 3))]
    expect(rest).toMatchObject([{ first: false, fin: true }])
  })

  it('leaves out what means nothing here', () => {
    const settings = control(4, Buffer.alloc(12))
    const windowUpdate = control(9, Buffer.alloc(8))
    const unknown = control(77, Buffer.alloc(5))
    expect(readAll([settings, windowUpdate, unknown, control(77, Buffer.alloc(0)), pingFrame(1)])).toEqual([
      { type: 'ping', id: 1 },
    ])
  })

  it.each([
    ['another version', control(6, Buffer.alloc(4), 2)],
    ['a control frame that is too long', control(4, Buffer.alloc(0)).fill(0xff, 5)],
    ['a ping of 5 bytes', control(6, Buffer.alloc(5))],
    ['an empty ping', control(6, Buffer.alloc(0))],
    ['a short reset', control(3, Buffer.alloc(4))],
    ['a short good-bye', control(7, Buffer.alloc(4))],
    ['a short window update', control(9, Buffer.alloc(4))],
    ['a stream without headers', control(1, Buffer.alloc(10, 1))],
    ['a short answer', control(2, Buffer.alloc(3))],
    ['data for stream 0', dataHeader(0, 1, false)],
    ['a reset of stream 0', control(3, Buffer.alloc(8))],
  ])('refuses %s', (_what, bytes) => {
    expect(() => readAll([bytes])).toThrow(expect.objectContaining({ code: 'InvalidArgument' }))
  })
})
