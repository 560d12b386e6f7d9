import type { Duplex } from 'node:stream'
import { dataHeader } from './frames.ts'

/** What a stream puts into one DATA frame before it is the next one's turn. */
const MAX_FRAME_BYTES = 32 * 1024
/** With so many control frames waiting, the peer asks for answers faster than it reads them. */
const MAX_WAITING_FRAMES = 4096

interface Outgoing {
  rest: Buffer
  readonly fin: boolean
  readonly done: () => void
}

/** What is to be written to a connection: as much at a time as it takes, control frames first, streams in turn. */
export class Outbox {
  readonly #socket: Duplex
  readonly #onWritten: () => void
  readonly #control: Buffer[] = []
  /** In the order of their turns. */
  readonly #streams = new Map<number, Outgoing>()
  /** Told when the connection has taken what they wrote. */
  #drained: (() => void)[] = []
  #writing = false
  /** When data was written last, by `performance.now()`. */
  lastDataMs = performance.now()

  /** `onWritten` is called whenever something has been written. */
  constructor(socket: Duplex, onWritten: () => void) {
    this.#socket = socket
    this.#onWritten = onWritten
  }

  /** Whether the connection has taken all that there was. */
  get idle(): boolean {
    return this.#control.length === 0 && this.#streams.size === 0 && this.#drained.length === 0 && !this.#full
  }

  /** Whether the peer should read before it asks for more. */
  get congested(): boolean {
    return this.#control.length > MAX_WAITING_FRAMES
  }

  get #full(): boolean {
    return this.#socket.writableNeedDrain || !this.#socket.writable
  }

  control(frame: Buffer): void {
    this.#control.push(frame)
    this.write()
  }

  /** One at a time for each stream. `done` is called when the connection has taken all of it; not if it is dropped. */
  data(streamId: number, payload: Buffer, fin: boolean, done: () => void): void {
    this.#streams.set(streamId, { rest: payload, fin, done })
    this.write()
  }

  /** Forgets what a stream has not written yet. */
  drop(streamId: number): void {
    this.#streams.delete(streamId)
  }

  /** Writes until the connection wants no more; to be called when it has drained. */
  write(): void {
    // Whoever is told that something is written may write more: the loop goes on with that.
    if (this.#writing || this.#full) return
    this.#writing = true
    this.#socket.cork()
    try {
      const drained = this.#drained
      this.#drained = []
      for (const done of drained) done()
      while (!this.#full && this.#writeNext());
    } finally {
      this.#writing = false
      this.#socket.uncork()
    }
    this.#onWritten()
  }

  #writeNext(): boolean {
    const control = this.#control.shift()
    if (control) {
      this.#socket.write(control)
      return true
    }
    for (const [streamId, outgoing] of this.#streams) {
      this.#writeData(streamId, outgoing)
      return true
    }
    return false
  }

  #writeData(streamId: number, outgoing: Outgoing): void {
    const payload = outgoing.rest.subarray(0, MAX_FRAME_BYTES)
    outgoing.rest = outgoing.rest.subarray(payload.length)
    const last = outgoing.rest.length === 0
    this.#streams.delete(streamId)
    if (!last) this.#streams.set(streamId, outgoing)
    this.lastDataMs = performance.now()
    this.#socket.write(dataHeader(streamId, payload.length, last && outgoing.fin))
    if (payload.length > 0) this.#socket.write(payload)
    if (!last) return
    if (this.#full) this.#drained.push(outgoing.done)
    else outgoing.done()
  }
}
