/** How messages are written: `binary` begins with the byte of its channel, `base64` is text that begins with its digit. */
export type ChannelCodec = 'binary' | 'base64'

/** What a message from the client says. `closed` is the client's half-close of a channel (v5). */
export type ChannelMessage = { readonly channel: number; readonly data: Buffer } | { readonly closed: number }

/** Of v5.channel.k8s.io: the next byte is the channel that ends. */
const CLOSE = 255
const DIGIT_0 = 0x30
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** A message to the client. */
export function encodeMessage(codec: ChannelCodec, channel: number, data: Uint8Array): Buffer | string {
  if (codec === 'base64') {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    return String.fromCharCode(DIGIT_0 + channel) + bytes.toString('base64')
  }
  const message = Buffer.allocUnsafe(data.length + 1)
  message[0] = channel
  message.set(data, 1)
  return message
}

/** A message from the client; null when it is empty, which says nothing, and undefined when it is none at all. */
export function decodeMessage(
  codec: ChannelCodec,
  hasClose: boolean,
  message: Buffer,
): ChannelMessage | null | undefined {
  const [first, second] = message
  if (first === undefined) return null
  if (codec === 'base64') {
    const text = message.toString('latin1', 1)
    return first >= DIGIT_0 && BASE64.test(text)
      ? { channel: first - DIGIT_0, data: Buffer.from(text, 'base64') }
      : undefined
  }
  if (!hasClose || first !== CLOSE) return { channel: first, data: message.subarray(1) }
  return second !== undefined && message.length === 2 ? { closed: second } : undefined
}
