import type { PodSandbox } from '../generated/runtime/v1/PodSandbox.ts'

/** A message of the stream holds at most this many sandboxes … */
const CHUNK_ITEMS = 100
/** … and, but for a single large one, at most this many bytes. */
const CHUNK_BYTES = 4 * 1024 * 1024

/** Tags, lengths and numbers of one sandbox, and of one entry of a map: more than they ever take. */
const ITEM_OVERHEAD = 64
const ENTRY_OVERHEAD = 16
/** A UTF-16 unit takes at most three bytes in UTF-8. */
const BYTES_PER_CHAR = 3

/** A number of bytes that the encoded form of `items` does not exceed. Much cheaper than encoding them. */
export function maxEncodedBytes(items: readonly PodSandbox[]): number {
  let bytes = 0
  for (const item of items) bytes += maxItemBytes(item)
  return bytes
}

/** Cuts a list into parts that fit a message each. An empty list has no parts. */
export function* inChunks(items: Iterable<PodSandbox>): Generator<PodSandbox[]> {
  let chunk: PodSandbox[] = []
  let bytes = 0
  for (const item of items) {
    const itemBytes = maxItemBytes(item)
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

function maxItemBytes({ id, metadata, labels, annotations, runtime_handler }: PodSandbox): number {
  const texts = [id, metadata?.name, metadata?.namespace, metadata?.uid, runtime_handler]
  let chars = 0
  for (const text of texts) chars += text?.length ?? 0
  let entries = 0
  for (const map of [labels, annotations]) {
    for (const [key, value] of Object.entries(map ?? {})) {
      chars += key.length + value.length
      entries += 1
    }
  }
  return chars * BYTES_PER_CHAR + entries * ENTRY_OVERHEAD + ITEM_OVERHEAD
}
