import type { Duplex } from 'node:stream'
import { aborted } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'
import { type DataPiece, type Frame, FrameReader, type HeadersFrame, violation } from './frame-reader.ts'
import * as frames from './frames.ts'
import { HeaderWriter } from './header-block.ts'
import { Outbox } from './outbox.ts'
import { SessionStream, type StreamSession } from './stream.ts'
import type { SpdyHeaders, SpdyOptions, SpdySession, SpdyStream } from './types.ts'

/** How long a session that says good-bye waits for the peer to take what was written, and to leave as well. */
const CLOSE_TIMEOUT_MS = 10_000

/**
 * A {@link SpdySession} over a connection, which it owns from then on. Whatever the peer sends ends this session at most.
 * Between two frames it holds no thread and no native memory, and when it has ended, nothing at all.
 */
export class SpdyConnection implements SpdySession {
  readonly #socket: Duplex
  readonly #options: SpdyOptions
  readonly #reader = new FrameReader()
  readonly #headers = new HeaderWriter()
  readonly #outbox: Outbox
  /** Until they are closed: a reader may still be busy with one that has ended in both directions. */
  readonly #streams = new Map<number, SessionStream>()
  readonly #controller = new AbortController()
  #listener: ((stream: SpdyStream) => void) | null = null
  #nextStreamId: number
  #lastPeerStreamId = 0
  #pingId: number
  /** What waits for readers. */
  #keptBytes = 0
  #lastDataMs = performance.now()
  #peerLeaves = false
  #closing = false
  #closed: Promise<void> | null = null
  /** Whether good-bye has been said, or the connection is gone: nothing is heard or said any more. */
  #left = false

  /** `head` is what came after the upgrade's own bytes. The rest comes from the next turn of the event loop on. */
  constructor(socket: Duplex, head: Buffer, options: SpdyOptions) {
    this.#socket = socket
    this.#options = options
    this.#nextStreamId = this.#pingId = options.role === 'client' ? 1 : 2
    this.#outbox = new Outbox(socket, () => this.#onWritten())
    if (socket.destroyed) {
      this.destroy(gone())
      return
    }
    if (head.length > 0) socket.unshift(head)
    socket.on('data', this.#onData).on('drain', this.#onDrain)
    socket.on('end', this.#onGone).on('close', this.#onGone).on('error', this.#onGone)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get lastActivityMs(): number {
    return Math.max(this.#lastDataMs, this.#outbox.lastDataMs)
  }

  onStream(listener: (stream: SpdyStream) => void): void {
    this.#listener = listener
  }

  open(headers: SpdyHeaders): SpdyStream {
    if (this.signal.aborted || this.#closing || this.#peerLeaves || this.#nextStreamId > frames.MAX_STREAM_ID) {
      throw new CodedError('Unavailable', 'open a spdy stream: the session has ended')
    }
    const id = this.#nextStreamId
    const block = this.#headers.write(headers)
    this.#nextStreamId += 2
    const stream = new SessionStream(id, headers, this.#streamSession, true)
    this.#streams.set(id, stream)
    this.#outbox.control(frames.synStreamFrame(id, block))
    return stream
  }

  ping(): void {
    // As long as something waits to be written, that shows it just as well.
    if (!this.#outbox.idle || this.signal.aborted) return
    this.#outbox.control(frames.pingFrame(this.#pingId))
    this.#pingId = (this.#pingId + 2) & frames.MAX_STREAM_ID
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  destroy(error: Error = new CodedError('Canceled', 'spdy session: closed')): void {
    if (this.signal.aborted) return
    const socket = this.#socket
    socket.off('data', this.#onData).off('drain', this.#onDrain)
    socket.off('end', this.#onGone).off('close', this.#onGone).off('error', this.#onGone)
    // What still goes wrong with it is of no interest to anybody.
    socket.on('error', () => undefined)
    this.#left = true
    this.#listener = null
    this.#controller.abort(error)
    this.#endStreams(error)
    socket.destroy()
  }

  async #close(): Promise<void> {
    if (this.signal.aborted) return
    this.#closing = true
    const timeoutMs = this.#options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS
    const timer = setTimeout(
      () => this.destroy(new CodedError('DeadlineExceeded', `close a spdy session: no end after ${timeoutMs} ms`)),
      timeoutMs,
    )
    this.#leaveWhenWritten()
    await aborted(this.signal)
    clearTimeout(timer)
  }

  /** Good-bye is the last word: Go clients read nothing after it. */
  #leaveWhenWritten(): void {
    if (!this.#closing || this.#left || !this.#outbox.idle) return
    for (const stream of this.#streams.values()) if (stream.unwritten) return
    this.#left = true
    this.#socket.write(frames.goAwayFrame(this.#lastPeerStreamId, frames.GOODBYE.ok))
    // Input is still read, and dropped, until the peer has left: unread input would take back what was written last.
    this.#socket.end()
    this.#socket.resume()
    this.#endStreams(new CodedError('Unavailable', 'spdy session: closed'))
  }

  #endStreams(error: Error): void {
    for (const stream of this.#streams.values()) {
      stream.fail(new CodedError('Unavailable', `spdy stream ${stream.id}: the session has ended`, { cause: error }))
    }
    this.#streams.clear()
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#left) return
    try {
      this.#handleAll(chunk)
    } catch (error) {
      if (this.#socket.writable) {
        this.#socket.write(frames.goAwayFrame(this.#lastPeerStreamId, frames.GOODBYE.protocolError))
      }
      this.destroy(error instanceof Error ? error : new Error(String(error)))
    }
    this.#readOrWait()
  }

  readonly #onDrain = (): void => this.#outbox.write()

  readonly #onGone = (error?: Error | boolean): void => this.destroy(this.#left ? undefined : gone(error))

  #onWritten(): void {
    this.#readOrWait()
    this.#leaveWhenWritten()
  }

  #readOrWait(): void {
    if (this.#left) return
    const wait = this.#keptBytes >= this.#options.maxBufferedBytes || this.#outbox.congested
    if (wait === this.#socket.isPaused()) return
    if (wait) this.#socket.pause()
    else this.#socket.resume()
  }

  #handleAll(chunk: Buffer): void {
    // All answers go out in one write: a peer shall not keep us busy with a system call for each.
    this.#socket.cork()
    try {
      for (const frame of this.#reader.read(chunk)) {
        this.#handle(frame)
        if (this.#left) return
      }
    } finally {
      this.#socket.uncork()
    }
  }

  #handle(frame: Frame): void {
    switch (frame.type) {
      case 'data':
        return this.#receive(frame)
      case 'synStream':
        return this.#accept(frame)
      case 'synReply':
      case 'headers':
        return this.#receiveHeaders(frame)
      case 'rstStream':
        this.#streams
          .get(frame.streamId)
          ?.fail(new CodedError('Unavailable', `spdy stream ${frame.streamId}: reset by the peer (${frame.status})`))
        return
      case 'ping':
        if (this.#isPeers(frame.id)) this.#outbox.control(frames.pingFrame(frame.id))
        return
      case 'goAway':
        return this.#peerGoesAway(frame.lastStreamId)
    }
  }

  #receive(piece: DataPiece): void {
    const stream = this.#streams.get(piece.streamId)
    if (!stream || stream.peerEnded) {
      // Once for a frame: what a peer sent before it heard of a reset is of no interest.
      const status = stream ? frames.RESET.streamAlreadyClosed : frames.RESET.invalidStream
      if (piece.first) this.#reject(piece.streamId, status)
      return
    }
    if (piece.payload.length > 0) {
      this.#lastDataMs = performance.now()
      stream.receive(piece.payload)
    }
    if (piece.fin) stream.receiveEnd()
  }

  #accept(frame: HeadersFrame): void {
    const { streamId, headers } = frame
    if (!this.#isPeers(streamId) || streamId <= this.#lastPeerStreamId) throw violation(`a new stream ${streamId}`)
    this.#lastPeerStreamId = streamId
    if (headers === null) return this.#reject(streamId, frames.RESET.protocolError)
    const room = !this.#closing && this.#streams.size < this.#options.maxStreams
    if (!room || !this.#listener || frame.unidirectional) return this.#reject(streamId, frames.RESET.refusedStream)
    const stream = new SessionStream(streamId, headers, this.#streamSession, false)
    this.#streams.set(streamId, stream)
    if (frame.fin) stream.receiveEnd()
    this.#listener(stream)
  }

  #receiveHeaders(frame: HeadersFrame): void {
    const stream = this.#streams.get(frame.streamId)
    if (frame.type === 'synReply') {
      if (this.#isPeers(frame.streamId)) throw violation(`an answer to its own stream ${frame.streamId}`)
      if (stream && !stream.answered()) throw violation(`a second answer to stream ${frame.streamId}`)
    }
    if (stream && frame.fin && !stream.peerEnded) stream.receiveEnd()
  }

  #peerGoesAway(lastStreamId: number): void {
    this.#peerLeaves = true
    for (const stream of this.#streams.values()) {
      if (this.#isPeers(stream.id) || stream.id <= lastStreamId) continue
      stream.fail(new CodedError('Unavailable', `spdy stream ${stream.id}: the peer has closed the session`))
    }
    this.#leaveAsLast()
  }

  /** With a peer that has said good-bye there is nothing left to do after the last stream. */
  #leaveAsLast(): void {
    if (this.#peerLeaves && this.#streams.size === 0) void this.close()
  }

  #isPeers(id: number): boolean {
    return (id % 2 === 1) === (this.#options.role === 'server')
  }

  #reject(streamId: number, status: number): void {
    this.#streams.get(streamId)?.fail(new CodedError('Unavailable', `spdy stream ${streamId}: reset (${status})`))
    this.#outbox.control(frames.rstStreamFrame(streamId, status))
  }

  /** What streams may do with their session. */
  readonly #streamSession: StreamSession = {
    send: (stream, payload, fin, done) => {
      this.#outbox.data(stream.id, payload, fin, done)
    },
    reply: (stream, headers) => {
      this.#outbox.control(frames.synReplyFrame(stream.id, this.#headers.write(headers)))
    },
    keep: (bytes) => {
      this.#keptBytes += bytes
      if (bytes < 0) this.#readOrWait()
    },
    release: (stream, reset) => {
      if (this.#streams.get(stream.id) !== stream) return
      this.#streams.delete(stream.id)
      this.#outbox.drop(stream.id)
      if (this.#left) return
      if (reset) this.#outbox.control(frames.rstStreamFrame(stream.id, frames.RESET.cancel))
      this.#leaveAsLast()
      this.#leaveWhenWritten()
    },
  }
}

function gone(error?: unknown): CodedError {
  const cause = error instanceof Error ? { cause: error } : {}
  return new CodedError('Unavailable', 'spdy session: the connection has been closed', cause)
}
