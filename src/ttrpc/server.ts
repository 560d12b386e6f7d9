import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { CodedError, errorMessage } from '../core/errors.ts'
import { freeSocketPath } from '../host/socket-path.ts'
import { ServedConnection } from './served-connection.ts'
import type { ServerMethod, TtrpcMessages, TtrpcMethod, TtrpcServerCall } from './types.ts'

/** Ties what a method does to the messages of its definition. */
export function ttrpcMethod<Request, Response>(
  definition: ServerMethod<Request, Response>,
  serve: (request: Request, call: TtrpcServerCall) => Promise<Response>,
): TtrpcMethod {
  return {
    async serve(payload, call) {
      let request: Request
      try {
        request = definition.requestDeserialize(payload)
      } catch (cause) {
        throw new CodedError('InvalidArgument', `request: cannot be decoded: ${errorMessage(cause)}`, { cause })
      }
      return definition.responseSerialize(await serve(request, call))
    },
  }
}

/** A ttrpc server of unary calls on a Unix socket. Services are added before `listen`. */
export class TtrpcServer implements AsyncDisposable {
  readonly #socketPath: string
  readonly #messages: TtrpcMessages
  readonly #services = new Map<string, Readonly<Record<string, TtrpcMethod>>>()
  readonly #connections = new Set<ServedConnection>()
  readonly #server: Server

  /** @param options.socketPath absolute, at most 107 bytes; its directory exists. Only the owner can connect. */
  constructor(options: { readonly socketPath: string }, deps: { readonly messages: TtrpcMessages }) {
    this.#socketPath = options.socketPath
    this.#messages = deps.messages
    this.#server = createServer((socket) => this.#accept(socket))
    this.#server.unref()
  }

  /** @param name in full, e.g. `containerd.task.v3.Task`. Methods that it lacks answer `Unimplemented`. */
  addService(name: string, methods: Readonly<Record<string, TtrpcMethod>>): void {
    this.#services.set(name, methods)
  }

  /**
   * Listens, in the place of a socket that nobody serves any more.
   * @throws CodedError `FailedPrecondition` when somebody does, `Unavailable` when the socket cannot be bound.
   */
  async listen(): Promise<void> {
    await freeSocketPath(this.#socketPath)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause) => {
        reject(new CodedError('Unavailable', `listen on ${this.#socketPath}: ${errorMessage(cause)}`, { cause }))
      })
      this.#server.listen(this.#socketPath, resolve)
    })
    await chmod(this.#socketPath, 0o600)
  }

  /** Ends every connection; the socket file is gone then. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    for (const connection of this.#connections) connection[Symbol.dispose]()
    await closed
  }

  #accept(socket: Socket): void {
    const connection = new ServedConnection(socket, { services: this.#services, messages: this.#messages })
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
  }
}
