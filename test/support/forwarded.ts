import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { pino } from 'pino'
import { CodedError } from '../../src/core/errors.ts'
import type { PortForward } from '../../src/streaming/carrier.ts'

/** Two ends of a TCP connection on the loopback address. */
export async function socketPair(): Promise<readonly [client: Socket, server: Socket]> {
  const server = createServer({ allowHalfOpen: true })
  const port = await listen(server)
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const [accepted] = (await once(server, 'connection')) as [Socket]
  server.close()
  return [client.setNoDelay(), accepted.setNoDelay()]
}

/**
 * The servers of a pod that is none: each number of a port has a handler for its connections, and real sockets. Ports without
 * one are refused; those in `silent` never answer.
 */
export class FakePod implements PortForward, AsyncDisposable {
  readonly sandboxId = 'pod'
  readonly logger = pino({ level: 'silent' })
  readonly streamCreationTimeoutMs: number
  ports: number[] = []
  readonly silent = new Set<number>()
  /** All that were ever handed out. */
  readonly sockets: Socket[] = []
  /** Why calls were given up. */
  readonly aborted: unknown[] = []
  readonly #accepted: Socket[] = []
  readonly #servers = new Map<number, { readonly server: Server; readonly port: number }>()

  constructor(streamCreationTimeoutMs = 30_000) {
    this.streamCreationTimeoutMs = streamCreationTimeoutMs
  }

  async serve(port: number, handle: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#accepted.push(socket)
      socket.on('error', () => socket.destroy())
      handle(socket)
    })
    this.#servers.set(port, { server, port: await listen(server) })
  }

  get openSockets(): number {
    return this.sockets.filter((socket) => !socket.destroyed).length
  }

  readonly connect = async (port: number, signal: AbortSignal): Promise<Socket> => {
    const server = this.#servers.get(port)
    if (this.silent.has(port)) {
      return new Promise<Socket>((_, reject) => {
        signal.addEventListener('abort', () => {
          this.aborted.push(signal.reason)
          reject(new CodedError('Canceled', 'given up'))
        })
      })
    }
    if (!server) throw new CodedError('Unavailable', `connect to port ${port}: connection refused`)
    const socket = connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
    await once(socket, 'connect')
    this.sockets.push(socket)
    return socket
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of [...this.sockets, ...this.#accepted]) socket.destroy()
    for (const { server } of this.#servers.values()) {
      server.close()
      await once(server, 'close')
    }
  }
}

/** Sends back what it gets, to the end. */
export function echo(socket: Socket): void {
  socket.pipe(socket)
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}
