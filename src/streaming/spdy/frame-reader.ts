import { CodedError } from '../../core/errors.ts'
import { CONTROL, FLAG_FIN, FLAG_UNIDIRECTIONAL, HEADER_BYTES, MAX_STREAM_ID, VERSION } from './frames.ts'
import { HeaderReader } from './header-block.ts'
import type { SpdyHeaders } from './types.ts'

/** What a control frame may be, other than its header. */
const MAX_CONTROL_BYTES = 64 * 1024

/** What has come of a DATA frame. `fin` goes with the last piece. */
export interface DataPiece {
  readonly type: 'data'
  readonly streamId: number
  readonly payload: Buffer
  readonly first: boolean
  readonly fin: boolean
}

/** A frame with headers; null when there is something wrong with them. */
export interface HeadersFrame {
  readonly type: 'synStream' | 'synReply' | 'headers'
  readonly streamId: number
  readonly fin: boolean
  readonly unidirectional: boolean
  readonly headers: SpdyHeaders | null
}

export type Frame =
  | DataPiece
  | HeadersFrame
  | { readonly type: 'rstStream'; readonly streamId: number; readonly status: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goAway'; readonly lastStreamId: number }

/** A DATA frame of which something is still to come. */
interface Incoming {
  readonly streamId: number
  readonly fin: boolean
  leftBytes: number
  first: boolean
}

/**
 * Cuts what comes from a peer into frames. Data is handed on as it comes, whatever the length of its frame; control frames
 * are kept until they are complete, and those that mean nothing to us are left out.
 */
export class FrameReader {
  readonly #headers = new HeaderReader()
  /** The header of a frame, or all of a control frame, as far as it has come. */
  #frame = Buffer.alloc(HEADER_BYTES)
  #filled = 0
  /** What is still to come of a DATA frame. */
  #data: Incoming | null = null

  /**
   * To be called with one piece after the other. The frames refer to its memory.
   * @throws CodedError `InvalidArgument`, while they are iterated, when the peer does not speak SPDY/3.1. Nothing can be read
   * after that.
   */
  read(chunk: Buffer): Iterable<Frame> {
    return this.#read(chunk)
  }

  *#read(chunk: Buffer): Generator<Frame, void, void> {
    let rest = chunk
    while (rest.length > 0) {
      if (this.#data?.leftBytes) {
        const payload = rest.subarray(0, this.#data.leftBytes)
        rest = rest.subarray(payload.length)
        yield this.#piece(this.#data, payload)
      } else {
        const taken = rest.copy(this.#frame, this.#filled)
        this.#filled += taken
        rest = rest.subarray(taken)
        if (this.#filled < this.#frame.length) return
        const frame = this.#next()
        if (frame) yield frame
      }
    }
  }

  #piece(data: Incoming, payload: Buffer): DataPiece {
    const { streamId, first } = data
    data.leftBytes -= payload.length
    data.first = false
    return { type: 'data', streamId, payload, first, fin: data.fin && data.leftBytes === 0 }
  }

  /** What to do with a complete header, or a complete control frame. */
  #next(): Frame | null {
    const frame = this.#frame
    const word = frame.readUInt32BE(0)
    const flags = frame.readUInt8(4)
    const lengthBytes = frame.readUIntBE(5, 3)
    if (word <= MAX_STREAM_ID) {
      this.#filled = 0
      this.#data = { streamId: known(word), fin: (flags & FLAG_FIN) !== 0, leftBytes: lengthBytes, first: true }
      return lengthBytes === 0 ? this.#piece(this.#data, Buffer.alloc(0)) : null
    }
    if (frame.length === HEADER_BYTES && lengthBytes > 0) {
      if (lengthBytes > MAX_CONTROL_BYTES) throw violation(`a control frame of ${lengthBytes} bytes`)
      this.#frame = Buffer.concat([frame, Buffer.alloc(lengthBytes)])
      return null
    }
    const version = (word >>> 16) & 0x7fff
    if (version !== VERSION) throw violation(`version ${version}`)
    this.#frame = Buffer.alloc(HEADER_BYTES)
    this.#filled = 0
    return this.#control(word & 0xffff, flags, frame.subarray(HEADER_BYTES))
  }

  #control(type: number, flags: number, payload: Buffer): Frame | null {
    const exactly = (bytes: number): void => {
      if (payload.length !== bytes) throw violation(`a frame of type ${type} with ${payload.length} bytes`)
    }
    switch (type) {
      case CONTROL.synStream:
        return this.#withHeaders('synStream', flags, payload, 10)
      case CONTROL.synReply:
        return this.#withHeaders('synReply', flags, payload, 4)
      case CONTROL.headers:
        return this.#withHeaders('headers', flags, payload, 4)
      case CONTROL.rstStream:
        exactly(8)
        return { type: 'rstStream', streamId: streamIdAt(payload), status: payload.readUInt32BE(4) }
      case CONTROL.ping:
        exactly(4)
        return { type: 'ping', id: payload.readUInt32BE(0) }
      case CONTROL.goAway:
        exactly(8)
        return { type: 'goAway', lastStreamId: payload.readUInt32BE(0) & MAX_STREAM_ID }
      case CONTROL.windowUpdate:
        exactly(8)
        return null
      default:
        // SETTINGS as well: there is none that changes anything here. What is not known is to be ignored.
        return null
    }
  }

  #withHeaders(type: HeadersFrame['type'], flags: number, payload: Buffer, blockOffset: number): HeadersFrame {
    if (payload.length <= blockOffset) throw violation(`a frame with headers of ${payload.length} bytes`)
    return {
      type,
      streamId: streamIdAt(payload),
      fin: (flags & FLAG_FIN) !== 0,
      unidirectional: (flags & FLAG_UNIDIRECTIONAL) !== 0,
      headers: this.#headers.read(payload.subarray(blockOffset)),
    }
  }
}

function streamIdAt(payload: Buffer): number {
  return known(payload.readUInt32BE(0) & MAX_STREAM_ID)
}

function known(streamId: number): number {
  if (streamId === 0) throw violation('stream 0')
  return streamId
}

/** What ends a session: the peer does what SPDY/3.1 does not allow. */
export function violation(what: string): CodedError {
  return new CodedError('InvalidArgument', `spdy session: the peer sent ${what}`)
}
