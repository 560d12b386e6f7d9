import { errorMessage, invalidField } from '../../core/errors.ts'
import type { PortForward } from '../carrier.ts'
import type { SpdyStream } from '../spdy/types.ts'

/** The two streams of a connection. */
export interface StreamPair {
  readonly port: number
  readonly data: SpdyStream
  /** For one text from us at most; what the client sends in it is dropped. */
  readonly error: SpdyStream
}

type Role = 'data' | 'error'

interface Waiting {
  readonly port: number
  readonly role: Role
  readonly stream: SpdyStream
  readonly timer: NodeJS.Timeout
}

/** Puts the streams of a session together to pairs, by the request id that both have. */
export class StreamPairs implements Disposable {
  readonly #forward: Pick<PortForward, 'streamCreationTimeoutMs' | 'logger'>
  readonly #onPair: (pair: StreamPair) => void
  readonly #waiting = new Map<string, Waiting>()

  constructor(forward: Pick<PortForward, 'streamCreationTimeoutMs' | 'logger'>, onPair: (pair: StreamPair) => void) {
    this.#forward = forward
    this.#onPair = onPair
  }

  /** Takes a stream that the client has opened; one that fits nowhere is reset. */
  add(stream: SpdyStream): void {
    // Whoever uses the stream sees its end; nobody does while it waits.
    stream.on('error', (error) => this.#forward.logger.debug({ error: errorMessage(error) }, 'stream was reset'))
    try {
      this.#add(stream)
    } catch (error) {
      this.#forward.logger.info({ stream: stream.id, error: errorMessage(error) }, 'stream refused')
      stream.destroy()
    }
  }

  [Symbol.dispose](): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    this.#waiting.clear()
  }

  #add(stream: SpdyStream): void {
    const port = portOf(stream)
    const role = roleOf(stream)
    const id = requestIdOf(stream, role)
    const first = this.#waiting.get(id)
    if (first?.role === role) throw invalidField('requestid', `the ${role} stream of this one is there already`)
    stream.reply()
    if (role === 'error') stream.resume()
    if (!first) {
      this.#wait(id, stream, { port, role })
      return
    }
    this.#forget(id, first)
    // Should the two name different ports, the one of the data stream counts.
    if (role === 'data') this.#onPair({ port, data: stream, error: first.stream })
    else this.#onPair({ port: first.port, data: first.stream, error: stream })
  }

  #wait(id: string, stream: SpdyStream, { port, role }: { readonly port: number; readonly role: Role }): void {
    const timer = setTimeout(() => {
      this.#forget(id, waiting)
      if (role === 'error') endWith(stream, 'the data stream of this connection was not opened in time')
      else stream.destroy()
    }, this.#forward.streamCreationTimeoutMs)
    const waiting = { port, role, stream, timer }
    this.#waiting.set(id, waiting)
    stream.once('close', () => this.#forget(id, waiting))
  }

  #forget(id: string, waiting: Waiting): void {
    clearTimeout(waiting.timer)
    // The id may be in use again.
    if (this.#waiting.get(id) === waiting) this.#waiting.delete(id)
  }
}

/** Says the last word, if there is one, and closes the stream also where the client has left its half open. */
export function endWith(errors: SpdyStream, text: string): void {
  errors.once('finish', () => errors.destroy())
  errors.end(text)
}

function portOf({ headers }: SpdyStream): number {
  const text = headers['port'] ?? ''
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535) return port
  throw invalidField('port', 'must be a number from 1 to 65535')
}

function roleOf({ headers }: SpdyStream): Role {
  const role = headers['streamtype']
  if (role !== 'data' && role !== 'error') throw invalidField('streamtype', 'must be data or error')
  return role
}

/** Clients older than the request id open the error stream of a connection first, and its data stream next. */
function requestIdOf({ headers, id }: SpdyStream, role: Role): string {
  return headers['requestid'] || String(role === 'error' ? id : id - 2)
}
