import { CodedError } from '../core/errors.ts'

/** What a frame is; streams, which would have others, are not spoken here. */
export const FRAME_TYPES = { request: 1, response: 2, data: 3 } as const

/** Of a message, without its header. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

const HEADER_BYTES = 10
const MAX_STREAM_ID = 0xffffffff

/** One message: a header (length, stream id, type, flags; big endian) and its payload. */
export interface Frame {
  /** Odd when a client began the stream. */
  readonly streamId: number
  readonly type: number
  readonly flags: number
  readonly payload: Buffer
}

/** @throws CodedError `ResourceExhausted` for a payload that is too long. */
export function encodeFrame({ streamId, type, flags, payload }: Frame): Buffer {
  checkLength(payload.length)
  if (streamId > MAX_STREAM_ID) throw new CodedError('ResourceExhausted', 'ttrpc: the connection has no more streams')
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length)
  frame.writeUInt32BE(payload.length, 0)
  frame.writeUInt32BE(streamId, 4)
  frame.writeUInt8(type, 8)
  frame.writeUInt8(flags, 9)
  payload.copy(frame, HEADER_BYTES)
  return frame
}

/** Cuts what comes over a connection into frames, however it is split. Keeps one frame at most. */
export class FrameReader {
  #chunks: Buffer[] = []
  #sizeBytes = 0
  #neededBytes = HEADER_BYTES

  /** Whether the connection would end in the middle of a frame if it ended now. */
  get isPartial(): boolean {
    return this.#sizeBytes > 0
  }

  /**
   * The frames that are complete with this chunk. Their payloads share its memory.
   * @throws CodedError `ResourceExhausted` for a frame that is announced as longer than any may be.
   */
  *read(chunk: Buffer): Generator<Frame> {
    this.#chunks.push(chunk)
    this.#sizeBytes += chunk.length
    while (this.#sizeBytes >= this.#neededBytes) {
      const bytes = this.#joined()
      const lengthBytes = bytes.readUInt32BE(0)
      checkLength(lengthBytes)
      this.#neededBytes = HEADER_BYTES + lengthBytes
      if (bytes.length < this.#neededBytes) return
      const payload = bytes.subarray(HEADER_BYTES, this.#neededBytes)
      this.#chunks = [bytes.subarray(this.#neededBytes)]
      this.#sizeBytes -= this.#neededBytes
      this.#neededBytes = HEADER_BYTES
      yield { streamId: bytes.readUInt32BE(4), type: bytes.readUInt8(8), flags: bytes.readUInt8(9), payload }
    }
  }

  /** Joined only when a header or a whole frame is there: a frame that comes byte by byte is copied twice at most. */
  #joined(): Buffer {
    const [first] = this.#chunks
    const bytes = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks)
    this.#chunks = [bytes]
    return bytes
  }
}

function checkLength(sizeBytes: number): void {
  if (sizeBytes <= MAX_MESSAGE_BYTES) return
  throw new CodedError('ResourceExhausted', `ttrpc: a message of ${sizeBytes} bytes, ${MAX_MESSAGE_BYTES} are allowed`)
}
