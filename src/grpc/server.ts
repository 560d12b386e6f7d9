import { chmod, chown } from 'node:fs/promises'
import { createServer } from 'node:net'
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'
import type { Logger } from 'pino'
import { groupId } from '../host/group.ts'
import { CodedError } from '../core/errors.ts'
import { MAX_MESSAGE_BYTES } from './limits.ts'
import { freeSocketPath } from '../host/socket-path.ts'
import { tolerantOfBadBytes } from './undecodable.ts'

export interface GrpcServerOptions {
  /** Absolute, at most 107 bytes; its directory exists. */
  readonly socketPath: string
  /** Permission bits of the socket file. */
  readonly mode: number
  /** Name or id of the group that owns the socket file; `''` leaves it as it is. */
  readonly group: string
  /**
   * A socket at this path that listens already, and that somebody else holds as well: its file, mode and group are not
   * ours. Who connects to it while nobody serves it waits for the next server.
   */
  readonly fd?: number | undefined
}

/** How many may wait to be accepted; the kernel lowers it to net.core.somaxconn. That of systemd's sockets. */
const BACKLOG = 4096

export interface GrpcServerDeps {
  readonly logger: Logger
}

/** A gRPC server on a Unix socket, with the health service. Services are added before `listen`. */
export class GrpcServer implements AsyncDisposable {
  readonly #options: GrpcServerOptions
  readonly #logger: Logger
  readonly #server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  readonly #injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure())
  /** grpc-js can listen on a path only, not on a descriptor. */
  readonly #listener = createServer((connection) => this.#injector.injectConnection(connection))
  readonly #health = new HealthImplementation({ '': 'NOT_SERVING' })
  readonly #healthNames = new Set([''])
  #closing: Promise<void> | undefined

  constructor(options: GrpcServerOptions, deps: GrpcServerDeps) {
    this.#options = options
    this.#logger = deps.logger
    this.#health.addToServer(this.#server)
  }

  /** Methods that `implementation` lacks answer UNIMPLEMENTED. The service's health starts as NOT_SERVING. */
  addService(definition: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    this.#server.addService(tolerantOfBadBytes(definition), implementation)
    for (const { path } of Object.values(definition)) {
      // "/package.Service/Method"
      const [, service] = path.split('/')
      if (service === undefined || this.#healthNames.has(service)) continue
      this.#healthNames.add(service)
      this.#health.setStatus(service, 'NOT_SERVING')
    }
  }

  /** What the health service says of one service, or of all of them and the server as a whole. */
  setServing(isServing: boolean, service?: string): void {
    for (const name of service === undefined ? this.#healthNames : [service]) {
      this.#health.setStatus(name, isServing ? 'SERVING' : 'NOT_SERVING')
    }
  }

  /**
   * Listens on the socket, in the place of one that nobody serves any more. Only the owner can connect before mode and
   * group are set, provided that the umask keeps others from writing.
   *
   * @throws CodedError `FailedPrecondition` when another daemon serves the socket or there is no such group,
   * `Unavailable` when the socket cannot be bound.
   */
  async listen(): Promise<void> {
    const { socketPath, mode, group, fd } = this.#options
    if (fd !== undefined) return this.#bind({ fd })
    const gid = group === '' ? undefined : await groupId(group)
    if (group !== '' && gid === undefined) {
      throw new CodedError('FailedPrecondition', `listen on ${socketPath}: there is no group ${group}`)
    }
    await freeSocketPath(socketPath)
    await this.#bind({ path: socketPath })
    try {
      if (gid !== undefined) await chown(socketPath, process.geteuid?.() ?? 0, gid)
      await chmod(socketPath, mode)
    } catch (error) {
      await this.close(0)
      throw error
    }
  }

  /**
   * Takes no new calls, waits up to `drainMs` for those under way, then cuts off the rest: their signals abort. A socket
   * file of our own is gone as soon as this has begun. Any number of callers share one closing.
   */
  async close(drainMs: number): Promise<void> {
    this.setServing(false)
    this.#closing ??= this.#shutDown(drainMs)
    await this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(0)
  }

  #bind(where: { readonly path: string } | { readonly fd: number }): Promise<void> {
    const { socketPath } = this.#options
    return new Promise((resolve, reject) => {
      this.#listener.once('error', (error) => {
        reject(new CodedError('Unavailable', `listen on ${socketPath}: ${error.message}`, { cause: error }))
      })
      this.#listener.listen({ ...where, backlog: BACKLOG }, () => {
        this.#listener.removeAllListeners('error').on('error', (error) => {
          this.#logger.error({ socket: socketPath, err: error }, 'connections cannot be accepted')
        })
        resolve()
      })
    })
  }

  #shutDown(drainMs: number): Promise<void> {
    // Who connects from now on waits for the next daemon, where the socket goes on.
    this.#listener.close()
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#logger.warn({ socket: this.#options.socketPath, drainMs }, 'calls did not end in time, cut off')
        this.#server.forceShutdown()
        resolve()
      }, drainMs)
      this.#server.tryShutdown((error) => {
        clearTimeout(timer)
        if (error) this.#logger.debug({ err: error }, 'the server was not listening')
        resolve()
      })
    })
  }
}
