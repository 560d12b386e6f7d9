import { setMaxListeners } from 'node:events'
import type { Socket } from 'node:net'
import { deadline } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { STATUS_NUMBERS } from '../core/status-codes.ts'
import type { Request__Output } from '../generated/ttrpc/Request.ts'
import type { Response } from '../generated/ttrpc/Response.ts'
import { encodeFrame, FRAME_TYPES, type Frame, FrameReader } from './frames.ts'
import type { TtrpcMessages, TtrpcServices } from './types.ts'

/** More calls than this at once, and the connection is not read until some have been answered. */
const MAX_CALLS = 1024

/** More answers than this that it has not taken, and it is not read either. */
const MAX_UNSENT_BYTES = 1024 * 1024

/** One client of a server. What it sends that no client may ends its connection, and nothing else. */
export class ServedConnection implements Disposable {
  readonly #socket: Socket
  readonly #services: TtrpcServices
  readonly #messages: TtrpcMessages
  readonly #reader = new FrameReader()
  readonly #gone = new AbortController()
  #lastStreamId = 0
  #calls = 0

  constructor(socket: Socket, deps: { readonly services: TtrpcServices; readonly messages: TtrpcMessages }) {
    this.#socket = socket
    this.#services = deps.services
    this.#messages = deps.messages
    // Every call under way listens for it.
    setMaxListeners(MAX_CALLS, this.#gone.signal)
    socket.unref()
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('end', () => socket.destroy())
    socket.on('drain', () => this.#readOn())
    // `close` follows.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#gone.abort(new CodedError('Canceled', 'the caller has gone')))
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.read(chunk)) this.#accept(frame)
    } catch {
      // Whoever sent it is told by the end of the connection; nothing that follows could be trusted.
      this.#socket.destroy()
    }
  }

  #accept({ streamId, type, payload }: Frame): void {
    if (type !== FRAME_TYPES.request || streamId % 2 === 0 || streamId <= this.#lastStreamId) {
      throw new CodedError('InvalidArgument', `ttrpc: message of type ${type} for stream ${streamId}`)
    }
    this.#lastStreamId = streamId
    const request = this.#messages.Request.deserialize(payload)
    if (++this.#calls >= MAX_CALLS) this.#socket.pause()
    void this.#answer(streamId, request)
  }

  /** Never rejects. */
  async #answer(streamId: number, request: Request__Output): Promise<void> {
    const response = await this.#serve(request).catch((error: unknown): Response => {
      return { status: { code: STATUS_NUMBERS[errorCode(error)], message: errorMessage(error) } }
    })
    this.#calls--
    if (this.#socket.writable) this.#socket.write(this.#frame(streamId, response))
    this.#readOn()
  }

  #readOn(): void {
    if (this.#calls < MAX_CALLS && this.#socket.writableLength < MAX_UNSENT_BYTES) this.#socket.resume()
    else this.#socket.pause()
  }

  async #serve({ service, method, payload, timeout_nano, metadata }: Request__Output): Promise<Response> {
    const methods = this.#services.get(service)
    const found = methods && Object.hasOwn(methods, method) ? methods[method] : undefined
    if (!found) throw new CodedError('Unimplemented', `/${service}/${method}: not served here`)
    const timeoutMs = Number(timeout_nano) / 1e6
    const gone = this.#gone.signal
    using limit = timeoutMs > 0 ? deadline(`/${service}/${method}`, timeoutMs, gone) : undefined
    const call = { signal: limit?.signal ?? gone, metadata: new Map(metadata.map(({ key, value }) => [key, value])) }
    return { payload: await found.serve(payload, call) }
  }

  #frame(streamId: number, response: Response): Buffer {
    const frame = (message: Response): Buffer => {
      const payload = this.#messages.Response.serialize(message)
      return encodeFrame({ streamId, type: FRAME_TYPES.response, flags: 0, payload })
    }
    try {
      return frame(response)
    } catch (error) {
      return frame({ status: { code: STATUS_NUMBERS[errorCode(error)], message: errorMessage(error) } })
    }
  }
}
