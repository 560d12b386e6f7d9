import { type IncomingMessage, request, type RequestOptions } from 'node:http'
import { codeOfName } from '../admin/error-codes.ts'
import { abortReason, deadline } from '../core/deadline.ts'
import { CodedError, errnoOf, errorMessage } from '../core/errors.ts'
import { jsonLines } from './json-lines.ts'

/** What an answer may be at most; a line of a stream as well. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024
const DEFAULT_MS = 10_000
const OLDER =
  'sandboxerd cannot do that: it is older than this sandboxerctl, and needs an upgrade, or a restart after one'
const NO_SANDBOXERD = 'what answers there is not the admin server of sandboxerd'

export interface AdminRequest {
  readonly method?: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** JSON. */
  readonly body?: unknown
  /** For the whole answer; of a stream, for its beginning. Default 10 s. */
  readonly timeoutMs?: number
}

/** Nobody serves the admin socket. */
export class DaemonDownError extends CodedError {
  override readonly name = 'DaemonDownError'

  constructor(socketPath: string) {
    super(
      'Unavailable',
      `sandboxerd is not running: nobody serves ${socketPath} (start it with: systemctl start sandboxerd; ` +
        'where its configuration is elsewhere, say so with --config or --socket)',
    )
  }
}

/** HTTP over the admin socket. Every call has a deadline and ends with the signal. */
export class AdminClient {
  readonly socketPath: string
  readonly #signal: AbortSignal

  constructor(options: { readonly socketPath: string; readonly signal: AbortSignal }) {
    this.socketPath = options.socketPath
    this.#signal = options.signal
  }

  /**
   * The answer to a request, which is taken to be of the type that src/admin/api.ts gives it.
   * @throws DaemonDownError, or a CodedError with the code and the message of the daemon.
   */
  async call<T>(path: string, options: AdminRequest = {}): Promise<T> {
    const text = await this.text(path, options)
    try {
      return JSON.parse(text) as T
    } catch (error) {
      throw new CodedError('Internal', `${this.socketPath}: ${NO_SANDBOXERD}`, { cause: error })
    }
  }

  /** The same of an answer that is not JSON. */
  async text(path: string, { timeoutMs = DEFAULT_MS, ...options }: AdminRequest = {}): Promise<string> {
    using limit = deadline(`ask ${this.socketPath} for ${path}`, timeoutMs, this.#signal)
    return await readAll(await this.#send(path, options, limit.signal), limit.signal)
  }

  /**
   * What an answer of one JSON object a line tells, as it comes, until it ends or the caller stops asking.
   * @throws as {@link call}.
   */
  async *stream<T>(path: string, { timeoutMs = DEFAULT_MS, ...options }: AdminRequest = {}): AsyncGenerator<T> {
    const closing = new AbortController()
    const onAbort = (): void => closing.abort(abortReason(this.#signal))
    if (this.#signal.aborted) onAbort()
    else this.#signal.addEventListener('abort', onAbort, { once: true })
    const late = new CodedError('DeadlineExceeded', `ask ${this.socketPath} for ${path}: no answer in ${timeoutMs} ms`)
    const timer = setTimeout(() => closing.abort(late), timeoutMs)
    try {
      const response = await this.#send(path, options, closing.signal)
      clearTimeout(timer)
      for await (const line of jsonLines(response, MAX_ANSWER_BYTES)) {
        throwIfError(line)
        yield line as T
      }
    } catch (error) {
      throw closing.signal.aborted ? abortReason(closing.signal) : cutOff(error)
    } finally {
      clearTimeout(timer)
      this.#signal.removeEventListener('abort', onAbort)
      // It closes the connection of a caller who has stopped asking.
      closing.abort()
    }
  }

  /** The head of the answer. @throws what the daemon has refused it with. */
  async #send(path: string, { method = 'GET', body }: AdminRequest, signal: AbortSignal): Promise<IncomingMessage> {
    signal.throwIfAborted()
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers = text === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': size(text) }
    const options: RequestOptions = { socketPath: this.socketPath, path, method, headers, signal, agent: false }
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const call = request(options, resolve)
      call.once('error', (error) => reject(signal.aborted ? abortReason(signal) : notReached(this.socketPath, error)))
      call.end(text)
    })
    if (response.statusCode === 200) return response
    const error = refusal(await readAll(response, signal), response.statusCode)
    const [name = ''] = path.split('?', 1)
    // What there is once is never taken away.
    const isUnknown = response.statusCode === 404 && error.message.startsWith(`${method} ${name}: `)
    throw isUnknown ? new CodedError('Unimplemented', `${method} ${name}: ${OLDER}`) : error
  }
}

/** Why nobody could be reached at a socket of the daemon. `error` has an errno, or says it as `connect EACCES`. */
export function notReached(socketPath: string, error: Error): CodedError {
  const errno = errnoOf(error) ?? /\bconnect (E[A-Z]+)/.exec(error.message)?.[1] ?? ''
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED') return new DaemonDownError(socketPath)
  if (errno === 'EACCES' || errno === 'EPERM') {
    const why = 'this user may not (try sudo; mode and group of the socket are in the configuration)'
    return new CodedError('PermissionDenied', `connect to ${socketPath}: ${why}`)
  }
  // What it says is no HTTP.
  if (errno.startsWith('HPE_')) return new CodedError('Internal', `${socketPath}: ${NO_SANDBOXERD}`, { cause: error })
  if (errno === 'ECONNRESET' || errno === 'EPIPE') {
    const why = 'sandboxerd has hung up without an answer: it is ending, or has too many clients'
    return new CodedError('Unavailable', `${socketPath}: ${why}`, { cause: error })
  }
  return new CodedError('Unavailable', `connect to ${socketPath}: ${errorMessage(error)}`, { cause: error })
}

/** What Node calls `aborted`: the connection has ended before the answer. */
function cutOff(error: unknown): unknown {
  if (errnoOf(error) !== 'ECONNRESET') return error
  return new CodedError('Unavailable', 'sandboxerd has gone away before its answer was whole')
}

function size(text: string): number {
  return Buffer.byteLength(text)
}

async function readAll(response: IncomingMessage, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > MAX_ANSWER_BYTES) throw new CodedError('ResourceExhausted', 'the answer of the daemon is too long')
      chunks.push(chunk)
    }
  } catch (error) {
    throw signal.aborted ? abortReason(signal) : cutOff(error)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The last line of a stream that has failed holds nothing but that. */
function throwIfError(line: unknown): void {
  if (typeof line !== 'object' || line === null || !('error' in line) || Object.keys(line).length > 1) return
  const { code, message } = line.error as { readonly code?: unknown; readonly message?: unknown }
  throw new CodedError(codeOfName(code), String(message))
}

function refusal(text: string, status = 0): CodedError {
  try {
    const { code, message } = JSON.parse(text) as { readonly code?: unknown; readonly message?: unknown }
    if (typeof message === 'string') return new CodedError(codeOfName(code), message)
  } catch {
    // Told below as it is.
  }
  return new CodedError('Internal', `the daemon answered with HTTP status ${status}: ${text.slice(0, 200)}`)
}
