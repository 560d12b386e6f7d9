import type { OutputName } from '../attach/records.ts'

const NEWLINE = 0x0a
/** Longer pieces of a line become several records; conmon has the same measure, and so expect those that read logs. */
const MAX_TEXT = 8 * 1024
const BUFFER_BYTES = 128 * 1024

// There is one thread that writes logs, and nothing is kept in it from one call to the next.
const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)

/**
 * Writes what was printed to a stream as records of a log in the CRI's format: `<time> <stream> P|F <text>\n`, `P` where the
 * line goes on. Nothing is kept from one chunk to the next: the end of a chunk without a newline is a record of its own.
 *
 * @param room how much may come in the first call of `emit`, and `maxBytes` in the others, unless a single record is longer.
 * @param emit is called with whole records, which it must have done with when it returns.
 */
export function writeRecords(
  output: { readonly stream: OutputName; readonly chunk: Uint8Array; readonly timeNs: bigint },
  limits: { readonly room: number; readonly maxBytes: number },
  emit: (records: Uint8Array) => void,
): void {
  const { stream, chunk, timeNs } = output
  const header = `${rfc3339(timeNs)} ${stream}`
  const [full, partial] = [Buffer.from(`${header} F `), Buffer.from(`${header} P `)]
  let limit = Math.min(limits.room, BUFFER_BYTES)
  let length = 0
  for (let at = 0; at < chunk.length; ) {
    const newline = chunk.indexOf(NEWLINE, at)
    const lineEnd = newline === -1 ? chunk.length : newline
    const end = Math.min(lineEnd, at + MAX_TEXT)
    const isFull = end === newline
    const recordBytes = full.length + (end - at) + 1
    if (length > 0 && length + recordBytes > limit) {
      emit(buffer.subarray(0, length))
      length = 0
      limit = Math.min(limits.maxBytes, BUFFER_BYTES)
    }
    buffer.set(isFull ? full : partial, length)
    buffer.set(chunk.subarray(at, end), length + full.length)
    length += recordBytes
    buffer[length - 1] = NEWLINE
    at = isFull ? end + 1 : end
  }
  if (length > 0) emit(buffer.subarray(0, length))
}

/** With nine digits of a second, in UTC. */
function rfc3339(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`
}
