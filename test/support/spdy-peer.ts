import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { type Frame, FrameReader } from '../../src/streaming/spdy/frame-reader.ts'
import { dataHeader, synReplyFrame, synStreamFrame } from '../../src/streaming/spdy/frames.ts'
import { HeaderWriter } from '../../src/streaming/spdy/header-block.ts'
import type { SpdyHeaders } from '../../src/streaming/spdy/types.ts'

/** A client that says what it is told to, right or wrong, and remembers what it hears. */
export class SpdyPeer {
  readonly socket: Duplex
  readonly heard: Frame[] = []
  readonly #headers = new HeaderWriter()

  constructor(socket: Duplex) {
    this.socket = socket
    const reader = new FrameReader()
    socket.on('data', (chunk: Buffer) => {
      for (const frame of reader.read(chunk)) {
        this.heard.push(frame.type === 'data' ? { ...frame, payload: Buffer.from(frame.payload) } : frame)
        socket.emit('heard')
      }
    })
    socket.on('error', () => undefined)
  }

  say(...frames: Buffer[]): void {
    this.socket.write(Buffer.concat(frames))
  }

  synStream(streamId: number, headers: SpdyHeaders = {}, flags = 0): Buffer {
    return flagged(synStreamFrame(streamId, this.#headers.write(headers)), flags)
  }

  synReply(streamId: number, flags = 0): Buffer {
    return flagged(synReplyFrame(streamId, this.#headers.write({})), flags)
  }

  data(streamId: number, payload: string | Buffer, fin = false): Buffer {
    const bytes = Buffer.from(payload)
    return Buffer.concat([dataHeader(streamId, bytes.length, fin), bytes])
  }

  /** The first frame like this, as soon as it is there. */
  async hear<T extends Frame['type']>(
    type: T,
    matches: (frame: Extract<Frame, { type: T }>) => boolean = () => true,
  ): Promise<Extract<Frame, { type: T }>> {
    for (;;) {
      const found = this.heard.find(
        (frame): frame is Extract<Frame, { type: T }> =>
          frame.type === type && matches(frame as Extract<Frame, { type: T }>),
      )
      if (found) return found
      await once(this.socket, 'heard', { signal: AbortSignal.timeout(5000) })
    }
  }
}

function flagged(frame: Buffer, flags: number): Buffer {
  frame.writeUInt8(flags, 4)
  return frame
}
