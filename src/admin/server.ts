import { chmod, chown } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import { aborted, deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { groupId } from '../host/group.ts'
import { freeSocketPath } from '../host/socket-path.ts'
import { sendAnswer, sendError } from './answer.ts'
import { findRoute, type Routes } from './route.ts'

/** What a connection may take to say what it wants; and how often that is looked at. */
const REQUEST_TIMEOUT_MS = 10_000
const CHECK_INTERVAL_MS = 2000
const IDLE_MS = 5000
const MAX_HEADER_BYTES = 16 * 1024
const MAX_BODY_BYTES = 1024 * 1024
/** More are closed at once. */
const MAX_CONNECTIONS = 128
/** Who reads nothing of a stream for so long is cut off. */
const STALLED_MS = 15_000
/** What an answer may take, unless its route says otherwise. */
const ANSWER_MS = 30_000

export interface AdminServerOptions {
  /** Absolute, at most 107 bytes; its directory exists. */
  readonly socket: string
  /** Permission bits of the socket file. They are all that keeps others out. */
  readonly mode: number
  /** Name or id of the group that owns the socket file; `''` leaves it as it is. */
  readonly group: string
  /** A descriptor that listens there already; whoever made it sees to the socket file. */
  readonly fd?: number | undefined
  /** Default 15 s. */
  readonly stalledMs?: number
}

/** HTTP on a Unix socket, for who looks after the node. Requests and answers are bounded, and so are who asks. */
export class AdminServer {
  readonly #options: AdminServerOptions
  readonly #routes: Routes
  readonly #logger: Logger
  readonly #closing = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  #server: Server | undefined

  constructor(options: AdminServerOptions, deps: { readonly routes: Routes; readonly logger: Logger }) {
    this.#options = options
    this.#routes = deps.routes
    this.#logger = deps.logger
  }

  /**
   * Listens on the socket, in the place of one that nobody serves any more. Only the owner can connect before mode and
   * group are set, provided that the umask keeps others from writing.
   *
   * @throws CodedError `FailedPrecondition` when another daemon serves the socket or there is no such group,
   * `Unavailable` when the socket cannot be bound.
   */
  async listen(): Promise<void> {
    const { socket, mode, group, fd } = this.#options
    const gid = group === '' ? undefined : await groupId(group)
    if (group !== '' && gid === undefined) {
      throw new CodedError('FailedPrecondition', `listen on ${socket}: there is no group ${group}`)
    }
    if (fd === undefined) await freeSocketPath(socket)
    const server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: IDLE_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    })
    server.maxConnections = MAX_CONNECTIONS
    server.on('request', (request, response) => this.#onRequest(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(new CodedError('Unavailable', `listen on ${socket}: ${error.message}`, { cause: error }))
      })
      server.listen(fd === undefined ? { path: socket } : { fd }, resolve)
    })
    server.on('error', (error) => this.#logger.error({ err: error }, 'the admin server failed'))
    this.#server = server
    if (fd !== undefined) return
    if (gid !== undefined) await chown(socket, process.geteuid?.() ?? 0, gid)
    await chmod(socket, mode)
  }

  /**
   * Takes no new requests, ends what goes on for ever, waits up to `drainMs` for the rest, and cuts off what is left then.
   * The socket file is gone as soon as this has begun. Any number of callers may close it.
   */
  async close(drainMs: number): Promise<void> {
    const server = this.#server
    this.#closing.abort(new CodedError('Unavailable', 'the daemon is stopping'))
    if (!server) return
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve())
    })
    using limit = deadline('close the admin server', drainMs)
    await Promise.race([Promise.all(this.#underWay), aborted(limit.signal)])
    server.closeAllConnections()
    await closed
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const work = this.#answer(request, response).finally(() => this.#underWay.delete(work))
    this.#underWay.add(work)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const leaving = new AbortController()
    response.once('close', () => leaving.abort(new CodedError('Canceled', 'the client has gone away')))
    // What goes wrong with a connection shows in its end.
    response.on('error', (error) => this.#logger.debug({ error: errorMessage(error) }, 'admin connection failed'))
    const { method = '', url = '' } = request
    const [path = '', query = ''] = url.split('?', 2)
    const what = `${method} ${path}`
    try {
      const { route, parameter } = findRoute(this.#routes, method, path)
      using limit = deadline(what, route.timeoutMs ?? ANSWER_MS, leaving.signal)
      const body = await readBody(request)
      const signal = route.isStream ? leaving.signal : limit.signal
      const answering = route.answer({ parameter, query: new URLSearchParams(query), body, signal })
      const answer = await waitFor(answering, limit.signal)
      const { stalledMs = STALLED_MS } = this.#options
      await sendAnswer(response, answer, { client: leaving.signal, closing: this.#closing.signal, stalledMs })
    } catch (error) {
      this.#logger.debug({ request: what, code: errorCode(error), error: errorMessage(error) }, 'admin request failed')
      sendError(response, error)
    }
  }
}

/** The JSON of a request; undefined when it has none. */
async function readBody(request: IncomingMessage): Promise<unknown> {
  const text = await readText(request)
  if (text === '') return undefined
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new CodedError('InvalidArgument', `body: must be JSON: ${errorMessage(error)}`, { cause: error })
  }
}

/** It leaves the connection as it is, so that whoever sends too much can be told. */
async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  return new Promise<string>((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= MAX_BODY_BYTES) return void chunks.push(chunk)
      request.pause()
      reject(new CodedError('InvalidArgument', `body: more than ${MAX_BODY_BYTES} bytes`))
    })
    request.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    request.on('error', reject)
    request.once('close', () => reject(new CodedError('Canceled', 'the client has gone away')))
  })
}
