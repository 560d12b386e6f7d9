import { constants, inflateRawSync } from 'node:zlib'
import { CodedError } from '../../core/errors.ts'
import { DICTIONARY, DICTIONARY_ID } from './dictionary.ts'
import type { SpdyHeaders } from './types.ts'

/** What a header block may be once it is inflated. Kubernetes sends some hundred bytes. */
const MAX_BLOCK_BYTES = 16 * 1024
/** How far back deflate refers. */
const WINDOW_BYTES = 32 * 1024
/** A zlib header (deflate, 32 KiB) that says that a dictionary is used. */
const ZLIB_HEADER = Buffer.from([0x78, 0x20, 0, 0, 0, 0])
ZLIB_HEADER.writeUInt32BE(DICTIONARY_ID, 2)
/** What a sync flush ends with: an empty stored block. */
const FLUSH = Buffer.from([0, 0, 0, 0xff, 0xff])
const FLUSH_MARK = FLUSH.subarray(1)
const NAME = /^[!-@[-~]+$/

/**
 * Header blocks as they are written in one direction of a connection. They are stored, not compressed: what we say is
 * short, a stored block refers to nothing before it, and so there is no state to keep.
 */
export class HeaderWriter {
  #started = false

  /** @throws CodedError `InvalidArgument` when there is too much of it. */
  write(headers: SpdyHeaders): Buffer {
    const block = encodeHeaders(headers)
    if (block.length > MAX_BLOCK_BYTES) throw new CodedError('InvalidArgument', `headers: ${block.length} bytes`)
    const stored = Buffer.alloc(5)
    stored.writeUInt16LE(block.length, 1)
    stored.writeUInt16LE(~block.length & 0xffff, 3)
    const zlibHeader = this.#started ? [] : [ZLIB_HEADER]
    this.#started = true
    return Buffer.concat([...zlibHeader, stored, block, FLUSH])
  }
}

/**
 * Header blocks as they are read in one direction of a connection. The peer ends each with a sync flush (the protocol's
 * words), that is, on a byte and with all of its output: so each is inflated on its own, with what came before it as the
 * dictionary. No zlib object lives between two blocks, and none works on a thread.
 */
export class HeaderReader {
  #window = DICTIONARY
  #started = false

  /**
   * The headers, or null when there is something wrong with them that concerns one stream only.
   * @throws CodedError `InvalidArgument` when the block cannot be read, and none after it.
   */
  read(compressed: Buffer): SpdyHeaders | null {
    if (!compressed.subarray(-FLUSH_MARK.length).equals(FLUSH_MARK)) throw malformed('no flush at the end')
    const block = this.#inflate(this.#withoutZlibHeader(compressed))
    this.#window = Buffer.concat([this.#window, block]).subarray(-WINDOW_BYTES)
    return decodeHeaders(block)
  }

  #withoutZlibHeader(compressed: Buffer): Buffer {
    if (this.#started) return compressed
    this.#started = true
    const known =
      compressed.length > ZLIB_HEADER.length &&
      (compressed.readUInt8(0) & 0x0f) === 8 &&
      compressed.readUInt16BE(0) % 31 === 0 &&
      (compressed.readUInt8(1) & 0x20) !== 0 &&
      compressed.readUInt32BE(2) === DICTIONARY_ID
    if (!known) throw malformed('no zlib header with the dictionary of SPDY/3')
    return compressed.subarray(ZLIB_HEADER.length)
  }

  #inflate(deflated: Buffer): Buffer {
    try {
      return inflateRawSync(deflated, {
        dictionary: this.#window,
        finishFlush: constants.Z_SYNC_FLUSH,
        maxOutputLength: MAX_BLOCK_BYTES,
        chunkSize: 4096,
      })
    } catch (cause) {
      throw malformed('cannot be inflated', cause)
    }
  }
}

function encodeHeaders(headers: SpdyHeaders): Buffer {
  const entries = Object.entries(headers)
  const parts = [uint32(entries.length)]
  for (const pair of entries) {
    for (const text of pair) {
      const bytes = Buffer.from(text)
      parts.push(uint32(bytes.length), bytes)
    }
  }
  return Buffer.concat(parts)
}

function decodeHeaders(block: Buffer): SpdyHeaders | null {
  const headers = new Map<string, string>()
  let offset = 0
  const take = (bytes: number): Buffer => {
    if (bytes > block.length - offset) throw malformed('it is cut short')
    offset += bytes
    return block.subarray(offset - bytes, offset)
  }
  let valid = true
  const count = take(4).readUInt32BE()
  for (let i = 0; i < count; i++) {
    const name = take(take(4).readUInt32BE()).toString()
    const value = take(take(4).readUInt32BE()).toString()
    // A NUL is between several values of one name, which nothing here has a use for.
    if (!NAME.test(name) || value.includes('\0') || headers.has(name)) valid = false
    headers.set(name, value)
  }
  if (offset !== block.length) throw malformed('something follows it')
  return valid ? Object.fromEntries(headers) : null
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function malformed(why: string, cause?: unknown): CodedError {
  return new CodedError('InvalidArgument', `header block of the peer: ${why}`, { cause })
}
