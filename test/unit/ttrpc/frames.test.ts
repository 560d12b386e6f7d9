import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeFrame, type Frame, FrameReader, MAX_MESSAGE_BYTES } from '../../../src/ttrpc/frames.ts'

const frame: fc.Arbitrary<Frame> = fc.record({
  streamId: fc.integer({ min: 0, max: 0xffffffff }),
  type: fc.integer({ min: 0, max: 255 }),
  flags: fc.integer({ min: 0, max: 255 }),
  payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
})

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end))
}

describe('FrameReader', () => {
  it('gives back the frames that were encoded, wherever the bytes were cut', () => {
    fc.assert(
      fc.property(fc.array(frame), fc.array(fc.nat(), { maxLength: 30 }), (frames, places) => {
        const reader = new FrameReader()
        const chunks = cut(Buffer.concat(frames.map(encodeFrame)), places)
        expect(chunks.flatMap((chunk) => [...reader.read(chunk)])).toEqual(frames)
        expect(reader.isPartial).toBe(false)
      }),
    )
  })

  it('gives only whole frames of what was cut off, and says so', () => {
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1 }), fc.nat(), (frames, place) => {
        const bytes = Buffer.concat(frames.map(encodeFrame))
        const reader = new FrameReader()
        const found = [...reader.read(bytes.subarray(0, place % bytes.length))]
        expect(found).toEqual(frames.slice(0, found.length))
        const readBytes = found.reduce((sum, { payload }) => sum + 10 + payload.length, 0)
        expect(reader.isPartial).toBe(place % bytes.length > readBytes)
      }),
    )
  })

  it('never throws anything but ResourceExhausted, whatever it is given', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (chunks) => {
        const reader = new FrameReader()
        try {
          for (const chunk of chunks) for (const _ of reader.read(Buffer.from(chunk)));
        } catch (error) {
          expect(error).toMatchObject({ code: 'ResourceExhausted' })
        }
      }),
    )
  })

  it('takes the longest message, byte by byte at its ends, and refuses a longer one by its header', () => {
    const payload = Buffer.alloc(MAX_MESSAGE_BYTES, 7)
    const bytes = encodeFrame({ streamId: 1, type: 2, flags: 0, payload })
    const reader = new FrameReader()
    const found = [bytes.subarray(0, 1), bytes.subarray(1, 9), bytes.subarray(9, 11), bytes.subarray(11)]
    expect(found.flatMap((chunk) => [...reader.read(chunk)])).toHaveLength(1)
    const header = Buffer.alloc(10)
    header.writeUInt32BE(MAX_MESSAGE_BYTES + 1)
    expect(() => [...new FrameReader().read(header)]).toThrow(`${MAX_MESSAGE_BYTES} are allowed`)
    expect(() =>
      encodeFrame({ streamId: 1, type: 2, flags: 0, payload: Buffer.alloc(MAX_MESSAGE_BYTES + 1) }),
    ).toThrow()
  })
})
