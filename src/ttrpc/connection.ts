import type { Socket } from 'node:net'
import { deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import { errorCodeOfStatus } from '../core/status-codes.ts'
import type { Response__Output } from '../generated/ttrpc/Response.ts'
import { encodeFrame, FRAME_TYPES, type Frame, FrameReader } from './frames.ts'
import type { ClientMethod, TtrpcCall, TtrpcConnection, TtrpcMessages } from './types.ts'

/** More than this that the peer has not taken, and it is taken for one that never will. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024

export interface ConnectionOptions {
  /** Of the peer, for messages. */
  readonly address: string
  /** Sent with every call, e.g. `containerd-namespace-ttrpc`. */
  readonly metadata: Readonly<Record<string, string>>
  /** What is sent with a call beside that, of whoever makes it. */
  readonly headers?: (() => Readonly<Record<string, string>>) | undefined
}

interface Pending {
  readonly resolve: (response: Response__Output) => void
  readonly reject: (error: Error) => void
}

/** A {@link TtrpcConnection} over a socket that is connected, which it takes over. */
export class SocketConnection implements TtrpcConnection {
  readonly closed: Promise<void>
  readonly #options: ConnectionOptions
  readonly #socket: Socket
  readonly #messages: TtrpcMessages
  readonly #reader = new FrameReader()
  readonly #pending = new Map<number, Pending>()
  #nextStreamId = 1
  /** Why the connection has ended. */
  #end: CodedError | undefined

  constructor(socket: Socket, options: ConnectionOptions, deps: { readonly messages: TtrpcMessages }) {
    this.#socket = socket
    this.#options = options
    this.#messages = deps.messages
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#lose(this.#reader.isPartial ? 'the peer closed it in the middle of a message' : 'the peer closed it')
        resolve()
      })
    })
    socket.on('error', (error) => this.#lose(errorMessage(error)))
    socket.on('end', () => socket.destroy())
    socket.on('data', (chunk) => this.#receive(chunk))
  }

  async call<Request extends object, Response extends object>(
    service: string,
    method: string,
    definition: ClientMethod<Request, Response>,
    request: Request,
    { timeoutMs, signal }: TtrpcCall,
  ): Promise<Response> {
    signal.throwIfAborted()
    const what = `${method} at ${this.#options.address}`
    using limit = timeoutMs > 0 ? deadline(what, timeoutMs, signal) : undefined
    const payload = definition.requestSerialize(request)
    const { streamId, response } = this.#send(service, method, payload, timeoutMs)
    try {
      const { status, payload: answer } = await waitFor(response, limit?.signal ?? signal)
      if (status && status.code !== 0)
        throw new CodedError(errorCodeOfStatus(status.code), `${what}: ${status.message}`)
      return this.#decode(what, () => definition.responseDeserialize(answer))
    } finally {
      // ttrpc has no way to cancel a call: an answer that comes later is dropped.
      this.#pending.delete(streamId)
    }
  }

  [Symbol.dispose](): void {
    this.#lose('it was given up')
  }

  #send(
    service: string,
    method: string,
    payload: Buffer,
    timeoutMs: number,
  ): { readonly streamId: number; readonly response: Promise<Response__Output> } {
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#lose('the peer does not read what it is sent')
    if (this.#end) throw this.#end
    const streamId = this.#nextStreamId
    const { metadata, headers } = this.#options
    const message = this.#messages.Request.serialize({
      service,
      method,
      payload,
      timeout_nano: timeoutMs * 1e6,
      metadata: Object.entries({ ...metadata, ...headers?.() }).map(([key, value]) => ({ key, value })),
    })
    const frame = encodeFrame({ streamId, type: FRAME_TYPES.request, flags: 0, payload: message })
    this.#nextStreamId += 2
    const response = new Promise<Response__Output>((resolve, reject) => {
      this.#pending.set(streamId, { resolve, reject })
    })
    this.#socket.write(frame)
    return { streamId, response }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.read(chunk)) this.#answer(frame)
    } catch (error) {
      this.#lose(errorMessage(error))
    }
  }

  /** @throws CodedError for what no server may send: then nothing that follows can be trusted. */
  #answer({ streamId, type, payload }: Frame): void {
    if (type !== FRAME_TYPES.response) throw new CodedError('Internal', `a message of type ${type} was not asked for`)
    if (streamId % 2 === 0 || streamId >= this.#nextStreamId) {
      throw new CodedError('Internal', `an answer to stream ${streamId}, which was not begun`)
    }
    const response = this.#decode('an answer', () => this.#messages.Response.deserialize(payload))
    this.#pending.get(streamId)?.resolve(response)
  }

  #decode<T>(what: string, decode: () => T): T {
    try {
      return decode()
    } catch (cause) {
      throw new CodedError('Internal', `${what}: cannot be decoded: ${errorMessage(cause)}`, { cause })
    }
  }

  #lose(why: string): void {
    if (this.#end) return
    this.#end = new CodedError('Unavailable', `connection to ${this.#options.address}: lost, ${why}`)
    this.#socket.destroy()
    for (const { reject } of this.#pending.values()) reject(this.#end)
    this.#pending.clear()
  }
}
