/** The types of control frames (SPDY/3.1 draft, section 2.6). */
export const CONTROL = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const

/** Why a stream is reset. */
export const RESET = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  cancel: 5,
  streamAlreadyClosed: 9,
} as const

/** Why a session is left. */
export const GOODBYE = { ok: 0, protocolError: 1 } as const

export const FLAG_FIN = 1
export const FLAG_UNIDIRECTIONAL = 2
export const VERSION = 3
export const HEADER_BYTES = 8
export const MAX_STREAM_ID = 0x7fffffff

/** A SYN_STREAM with the lowest priority, which nobody looks at. */
export function synStreamFrame(streamId: number, headerBlock: Buffer): Buffer {
  const fields = Buffer.alloc(10)
  fields.writeUInt32BE(streamId)
  return controlFrame(CONTROL.synStream, Buffer.concat([fields, headerBlock]))
}

export function synReplyFrame(streamId: number, headerBlock: Buffer): Buffer {
  return controlFrame(CONTROL.synReply, Buffer.concat([uint32s(streamId), headerBlock]))
}

export function rstStreamFrame(streamId: number, status: number): Buffer {
  return controlFrame(CONTROL.rstStream, uint32s(streamId, status))
}

export function pingFrame(id: number): Buffer {
  return controlFrame(CONTROL.ping, uint32s(id))
}

export function goAwayFrame(lastStreamId: number, status: number): Buffer {
  return controlFrame(CONTROL.goAway, uint32s(lastStreamId, status))
}

/** The header of a DATA frame; the payload follows it. */
export function dataHeader(streamId: number, payloadBytes: number, fin: boolean): Buffer {
  return uint32s(streamId, (fin ? FLAG_FIN << 24 : 0) | payloadBytes)
}

function controlFrame(type: number, payload: Buffer): Buffer {
  return Buffer.concat([uint32s((0x80000000 | (VERSION << 16) | type) >>> 0, payload.length), payload])
}

function uint32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, i) => bytes.writeUInt32BE(value, 4 * i))
  return bytes
}
