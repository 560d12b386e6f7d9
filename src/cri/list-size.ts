/** A message of a stream holds at most this many items … */
const CHUNK_ITEMS = 100
/** … and, but for a single large one, at most this many bytes. */
const CHUNK_BYTES = 4 * 1024 * 1024

/** The tag and the length of a field, or a number with its tag: more than they ever take. */
const FIELD_BYTES = 16
/** A UTF-16 unit takes at most three bytes in UTF-8. */
const BYTES_PER_CHAR = 3

/** A number of bytes that the encoded form of a message does not exceed. Much cheaper than encoding it. */
export function maxEncodedBytes(value: unknown): number {
  if (value === null || value === undefined) return 0
  if (typeof value === 'string') return FIELD_BYTES + value.length * BYTES_PER_CHAR
  if (typeof value !== 'object') return FIELD_BYTES
  if (value instanceof Uint8Array) return FIELD_BYTES + value.byteLength
  let bytes = FIELD_BYTES
  if (Array.isArray(value)) {
    for (const item of value) bytes += maxEncodedBytes(item)
    return bytes
  }
  for (const [key, part] of Object.entries(value)) {
    // Only the keys of maps are sent; counting those of messages too saves telling them apart.
    bytes += key.length * BYTES_PER_CHAR + FIELD_BYTES + maxEncodedBytes(part)
  }
  return bytes
}

/** Cuts a list into parts that fit a message each. An empty list has no parts. */
export function* inChunks<Item>(items: Iterable<Item>): Generator<Item[]> {
  let chunk: Item[] = []
  let bytes = 0
  for (const item of items) {
    const itemBytes = maxEncodedBytes(item)
    if (chunk.length > 0 && (chunk.length === CHUNK_ITEMS || bytes + itemBytes > CHUNK_BYTES)) {
      yield chunk
      chunk = []
      bytes = 0
    }
    chunk.push(item)
    bytes += itemBytes
  }
  if (chunk.length > 0) yield chunk
}
