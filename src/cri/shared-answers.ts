/**
 * An encoder that encodes each object once, for as long as somebody holds it: for answers that several callers get as
 * the same object. It must not change any more.
 */
export function encodingOnce<Message extends object>(
  encode: (message: Message) => Buffer,
): (message: Message) => Buffer {
  const encoded = new WeakMap<Message, Buffer>()
  return (message) => {
    const known = encoded.get(message)
    if (known !== undefined) return known
    const bytes = encode(message)
    encoded.set(message, bytes)
    return bytes
  }
}
