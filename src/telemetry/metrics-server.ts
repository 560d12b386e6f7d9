import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { Logger } from './logger.ts'

/** What a client may take to ask, and how often that is looked at. */
const REQUEST_TIMEOUT_MS = 10_000
const CHECK_INTERVAL_MS = 5000
/** Who asks nothing, or does not read the answer, for so long is cut off. */
const IDLE_MS = 15_000
/** Anybody on the node may ask, and as often as they like: an answer is good for so long. */
const FRESH_MS = 100
const MAX_HEADER_BYTES = 8 * 1024
const MAX_CONNECTIONS = 32

export interface MetricsServerOptions {
  /** `127.0.0.1:9464`, `[::1]:9464` */
  readonly address: string
}

export interface MetricsServerDeps {
  readonly metrics: { readonly contentType: string; readonly text: () => Promise<string> }
  readonly logger: Logger
}

/** Serves `GET /metrics`, and nothing else. */
export class MetricsServer implements AsyncDisposable {
  readonly #options: MetricsServerOptions
  readonly #deps: MetricsServerDeps
  readonly #server: Server
  #text: Promise<string> | undefined

  constructor(options: MetricsServerOptions, deps: MetricsServerDeps) {
    this.#options = options
    this.#deps = deps
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: CHECK_INTERVAL_MS,
      },
      (request, response) => void this.#serve(request, response),
    )
    this.#server.maxConnections = MAX_CONNECTIONS
    this.#server.setTimeout(IDLE_MS)
  }

  /** @throws CodedError `Unavailable` when the address cannot be listened on. */
  async listen(): Promise<void> {
    const { address } = this.#options
    const { hostname, port } = new URL(`http://${address}`)
    const server = this.#server
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(
          new CodedError('Unavailable', `metrics.address: listen on ${address}: ${error.message}`, { cause: error }),
        )
      })
      // The port of http itself is left out of a URL.
      server.listen({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }, resolve)
    })
    server.on('error', (error) => this.#deps.logger.error({ err: error }, 'the metrics server failed'))
  }

  /** Ends at once; nobody waits for metrics of a daemon that is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A body has no place here; it is not waited for.
    request.resume()
    const [path] = (request.url ?? '').split('?', 1)
    const { metrics, logger } = this.#deps
    if (path !== '/metrics' || request.method !== 'GET') return answer(response, 404, 'GET /metrics is all there is\n')
    try {
      const text = await this.#metrics()
      answer(response, 200, text, metrics.contentType)
    } catch (error) {
      logger.warn({ error: errorMessage(error) }, 'metrics cannot be told')
      answer(response, 500, 'metrics cannot be told; the log says why\n')
    }
  }

  async #metrics(): Promise<string> {
    if (this.#text) return this.#text
    const text = this.#deps.metrics.text()
    this.#text = text
    setTimeout(() => (this.#text = undefined), FRESH_MS).unref()
    return text
  }
}

function answer(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
}
