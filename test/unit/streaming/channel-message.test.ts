import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeMessage, encodeMessage } from '../../../src/streaming/websocket/channel-message.ts'

const codec = fc.constantFrom('binary' as const, 'base64' as const)

describe('channel messages', () => {
  it('say which channel, and carry every byte', () => {
    fc.assert(
      fc.property(codec, fc.nat(63), fc.uint8Array({ maxLength: 1000 }), (kind, channel, data) => {
        const message = Buffer.from(encodeMessage(kind, channel, data))
        const decoded = decodeMessage(kind, true, message)
        expect(decoded).toEqual({ channel, data: Buffer.from(data) })
      }),
    )
  })

  it('are decoded or refused, whatever comes', () => {
    fc.assert(
      fc.property(codec, fc.boolean(), fc.uint8Array({ maxLength: 100 }), (kind, hasClose, bytes) => {
        const decoded = decodeMessage(kind, hasClose, Buffer.from(bytes))
        if (bytes.length === 0) expect(decoded).toBeNull()
        else if (decoded && 'channel' in decoded) expect(decoded.channel).toBeGreaterThanOrEqual(0)
      }),
    )
  })

  it.each([
    ['binary', true, [255, 0], { closed: 0 }],
    ['binary', true, [255, 255], { closed: 255 }],
    ['binary', true, [255], undefined],
    ['binary', true, [255, 0, 0], undefined],
    ['binary', false, [255, 0], { channel: 255, data: Buffer.of(0) }],
    ['base64', false, [...Buffer.from('0Zm9vCg==')], { channel: 0, data: Buffer.from('foo\n') }],
    ['base64', false, [...Buffer.from('4')], { channel: 4, data: Buffer.alloc(0) }],
    ['base64', false, [...Buffer.from('0Zm9vCg=')], undefined],
    ['base64', false, [...Buffer.from('0Zm9v Cg=')], undefined],
    ['base64', false, [...Buffer.from('0Zm9v\n')], undefined],
    ['base64', false, [0x2f, 0x41], undefined],
  ] as const)('%s, half-close %s: %j', (kind, hasClose, bytes, expected) => {
    expect(decodeMessage(kind, hasClose, Buffer.from(bytes))).toEqual(expected)
  })
})
