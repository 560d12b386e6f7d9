import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { abortReason, deadline, waitFor } from '../core/deadline.ts'
import { CodedError, errorCode } from '../core/errors.ts'
import { httpStatus, refusal } from './error-codes.ts'
import type { Answer } from './route.ts'

/** When an answer is given up. */
export interface SendLimits {
  /** The client has gone. */
  readonly client: AbortSignal
  /** The server closes: what goes on ends, all else is still answered. */
  readonly closing: AbortSignal
  /** Who reads nothing of a stream for so long is cut off. */
  readonly stalledMs: number
}

/** Sends an answer. @throws what the first line of a stream has thrown; then nothing was sent. */
export async function sendAnswer(response: ServerResponse, answer: Answer, limits: SendLimits): Promise<void> {
  if ('lines' in answer) return sendLines(response, answer.lines, limits)
  const { text, contentType } =
    'json' in answer ? { text: `${toJson(answer.json)}\n`, contentType: 'application/json' } : answer
  send(response, 200, contentType, text)
}

/** Tells what went wrong, if there is still somebody to be told and nothing was sent yet. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.destroyed || response.writableEnded) return
  if (response.headersSent) {
    response.end(`${toJson({ error: refusal(error) })}\n`)
    return
  }
  // What of the request was not read is not waited for.
  response.setHeader('Connection', 'close')
  send(response, httpStatus(errorCode(error)), 'application/json', `${toJson(refusal(error))}\n`)
}

function send(response: ServerResponse, status: number, contentType: string, text: string): void {
  const length = Buffer.byteLength(text)
  response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': length, 'Cache-Control': 'no-store' })
  response.end(text)
}

async function sendLines(response: ServerResponse, lines: AsyncIterable<unknown>, limits: SendLimits): Promise<void> {
  const { client, closing, stalledMs } = limits
  const ending = new AbortController()
  const end = (): void => ending.abort(abortReason(client.aborted ? client : closing))
  const all = [client, closing]
  for (const signal of all) {
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
  }
  const iterator = lines[Symbol.asyncIterator]()
  try {
    for (let isFirst = true; ; isFirst = false) {
      const next = iterator.next()
      if (isFirst) {
        // What is refused at once has a status of its own; what only waits has begun.
        const state = await Promise.race([next.then(() => 'told' as const), settled()])
        if (state === 'waits') begin(response)
      }
      const line = await waitFor(next, ending.signal)
      if (!response.headersSent) begin(response)
      if (line.done) break
      if (!response.write(`${toJson(line.value)}\n`)) await drained(response, stalledMs, ending.signal)
    }
    response.end()
  } finally {
    for (const signal of all) signal.removeEventListener('abort', end)
    // It may be waiting for something that never comes: its signal has told it, nobody waits for it here.
    void Promise.resolve(iterator.return?.()).catch(() => undefined)
  }
}

/** Resolves when everything has happened that needs nothing from outside. */
async function settled(): Promise<'waits'> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve)
  })
  return 'waits'
}

function begin(response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' })
  response.flushHeaders()
}

async function drained(response: ServerResponse, stalledMs: number, signal: AbortSignal): Promise<void> {
  using limit = deadline('send to a client', stalledMs, signal)
  try {
    await once(response, 'drain', { signal: limit.signal })
  } catch (error) {
    response.destroy()
    throw limit.signal.aborted ? abortReason(limit.signal) : error
  }
}

/** @throws CodedError `Internal` for what JSON has no words for. */
function toJson(value: unknown): string {
  const text = JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'bigint' ? member.toString() : member,
  ) as string | undefined
  if (text === undefined) throw new CodedError('Internal', 'an answer is not JSON')
  return text
}
